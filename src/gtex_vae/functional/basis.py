"""Coordinates in an orthonormal basis.

Shapes: ``n`` samples, ``g`` genes, ``f`` coordinates.
"""

from __future__ import annotations

from torch import Tensor


def coordinates(x_ng: Tensor, basis_fg: Tensor) -> tuple[Tensor, Tensor]:
    r"""Compute coordinates y = B x, and the squared length of the part outside the span of the basis.

    Squared errors are the same in every basis, and what lies outside the span of this one adds the same number to those
    of any decoder that stays inside it:

    .. math:: \lVert x - B^\top \hat y \rVert^2 = \lVert y - \hat y \rVert^2 + \lVert x \rVert^2 - \lVert y \rVert^2

    Parameters
    ----------
    x_ng
        Samples.
    basis_fg
        Orthonormal rows.

    Returns
    -------
    y_nf, outside_n
        The latter is never negative.

    Examples
    --------
    >>> import torch
    >>> coordinates(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]]))
    (tensor([[3.]]), tensor([16.]))
    """
    y_nf = x_ng @ basis_fg.T
    return y_nf, (x_ng.square().sum(1) - y_nf.square().sum(1)).clamp_min(0.0)
