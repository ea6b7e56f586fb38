"""The mode of a posterior, from where an encoder thinks it is.

Shapes: ``n`` samples, ``f`` features, ``d`` latent dimensions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

RATE = 0.8  # of a whole Gauss-Newton step: the metric is only nearly that of the place
MOMENTUM = 0.5


def climb(
    linearized: Callable[[Tensor], tuple[Tensor, Callable[[Tensor], Tensor]]],
    z_nd: Tensor,
    x_nf: Tensor,
    precision_f: Tensor,
    loadings_fd: Tensor,
    *,
    steps: int,
) -> Tensor:
    r"""Some steps towards the mode of p(z | x), preconditioned by loadings that resemble the decoder's.

    .. math:: z \leftarrow z + m, \quad m \leftarrow \tfrac12 m - 0.8\,
        (W^\top P W + I)^{-1} \big( J(z)^\top P\, (f(z) - x) + z \big)

    An encoder shares its weights among all samples, so what it says of one that it was not trained on is somewhat off;
    the decoder knows in which direction. Of the places on the way each sample takes the best, so that none is worse off
    than at its start; who else is in the batch changes nothing.

    Parameters
    ----------
    linearized
        The decoder's mean f at a position, (n, d) to (n, f), with the product of its transposed Jacobian there, (n, f)
        to (n, d).
    z_nd
        Where to start: the encoder's mean.
    x_nf
        What was observed.
    precision_f
        Inverse variances P of the likelihood, one or f of them.
    loadings_fd
        W, about the Jacobian J.
    steps
        How many.

    References
    ----------
    Kim et al. (2018), Semi-Amortized Variational Autoencoders; Marino, Yue and Mandt (2018), Iterative Amortized
    Inference.

    Examples
    --------
    A linear decoder: the mode is that of a ridge regression.

    >>> linear, start = torch.full((1, 1), 3.0), torch.zeros(1, 1)
    >>> z_nd = climb(lambda z: (z @ linear, lambda s: s @ linear), start, 5.0 * torch.ones(1, 1), torch.ones(1), linear, steps=9)
    >>> round(float(z_nd), 1)
    1.5
    """
    # in bfloat16 the weak directions of the metric would be lost
    with torch.autocast(z_nd.device.type, enabled=False):
        eye_dd = torch.eye(z_nd.shape[1], dtype=z_nd.dtype, device=z_nd.device)
        metric_dd = torch.linalg.inv((loadings_fd.T * precision_f) @ loadings_fd + eye_dd)
        best_nd, least_n = z_nd, torch.full_like(z_nd[:, 0], torch.inf)
        move_nd = torch.zeros_like(z_nd)
        for step in range(steps + 1):
            x_hat_nf, pull = linearized(z_nd)
            off_nf = x_hat_nf - x_nf
            energy_n = 0.5 * ((precision_f * off_nf.square()).sum(1) + z_nd.square().sum(1))
            better_n = energy_n < least_n
            best_nd = torch.where(better_n[:, None], z_nd, best_nd)
            least_n = torch.where(better_n, energy_n, least_n)
            if step < steps:
                move_nd = MOMENTUM * move_nd - RATE * (pull(precision_f * off_nf) + z_nd) @ metric_dd
                z_nd = z_nd + move_nd
        return best_nd
