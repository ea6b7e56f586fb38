"""Steps from an encoder's mean towards the mode of the posterior.

Shapes: ``n`` samples, ``f`` features, ``d`` latent dimensions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

RATE = 0.8  # of a full Gauss-Newton step, because the preconditioner is approximate
MOMENTUM = 0.5


def preconditioner(loadings_fd: Tensor, precision_f: Tensor) -> Tensor:
    r"""Compute the posterior covariance (d, d) of a linear decoder, the metric of `step_to_mode`.

    .. math:: (W^\top P W + I)^{-1}

    Parameters
    ----------
    loadings_fd
        Weights W of the linear decoder.
    precision_f
        Inverse variances P of the likelihood, one or f of them.
    """
    # bfloat16 would lose the directions of small variance
    with torch.autocast(loadings_fd.device.type, enabled=False):
        d = loadings_fd.shape[1]
        eye_dd = torch.eye(d, dtype=loadings_fd.dtype, device=loadings_fd.device)
        return torch.linalg.inv((loadings_fd.T * precision_f) @ loadings_fd + eye_dd)


def step_to_mode(
    linearized: Callable[[Tensor], tuple[Tensor, Callable[[Tensor], Tensor]]],
    z_nd: Tensor,
    x_nf: Tensor,
    precision_f: Tensor,
    metric_dd: Tensor,
    *,
    steps: int,
) -> Tensor:
    r"""Take preconditioned gradient steps towards the mode of p(z | x).

    .. math:: z \leftarrow z + m, \quad m \leftarrow \tfrac12 m - 0.8\, M \big( J(z)^\top P\, (f(z) - x) + z \big)

    An encoder shares its weights among all samples, so its mean is inexact for samples outside the training set. The
    gradient of the decoder corrects it. Each sample keeps the best position visited, so no sample gets worse, and the
    result does not depend on the other samples of the batch.

    Parameters
    ----------
    linearized
        Function of a position (n, d) that returns the decoder's mean f, (n, f), and the product with its transposed
        Jacobian J there, (n, f) to (n, d).
    z_nd
        Start: the encoder's mean.
    x_nf
        Observed features.
    precision_f
        Inverse variances P of the likelihood, one or f of them.
    metric_dd
        M, from `preconditioner` with loadings close to J.
    steps
        Number of steps.

    References
    ----------
    Kim et al. (2018), Semi-Amortized Variational Autoencoders; Marino, Yue and Mandt (2018), Iterative Amortized
    Inference.

    Examples
    --------
    With a linear decoder the mode is a ridge regression.

    >>> linear, one = torch.full((1, 1), 3.0), torch.ones(1)
    >>> decoder = lambda z_nd: (z_nd @ linear, lambda slope_nf: slope_nf @ linear)
    >>> z_nd = step_to_mode(decoder, torch.zeros(1, 1), 5.0 * torch.ones(1, 1), one, preconditioner(linear, one), steps=9)
    >>> round(float(z_nd), 1)
    1.5
    """
    with torch.autocast(z_nd.device.type, enabled=False):
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
