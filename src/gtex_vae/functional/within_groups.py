"""Linear effects within groups.

Shapes: ``n`` samples, ``k`` covariates, ``f`` features.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHRINKAGE = (
    5.0  # samples' worth of evidence for no effect: rare classes such as batches have few of their own
)


def effects_within(y_nf: Tensor, c_nk: Tensor, group_n: Tensor) -> Tensor:
    r"""Ridge regression of features on covariates, both as differences from the means of their group.

    .. math:: \min_B \lVert \tilde y - \tilde c B \rVert^2 + \lambda \lVert B \rVert^2, \qquad
        \tilde y_n = y_n - \bar y_{g(n)}

    Differences between groups, such as tissues, are not attributed to covariates that differ between the groups too.

    Parameters
    ----------
    y_nf
        Features.
    c_nk
        Covariates of about unit variance, or indicators.
    group_n
        Number of each sample's group, int64.

    Returns
    -------
    Tensor
        B, shape (k, f).

    Examples
    --------
    >>> c_nk = torch.tensor([[0.0], [100.0], [0.0], [100.0]])
    >>> effects_within(torch.tensor([[0.0], [200.0], [7.0], [207.0]]), c_nk, torch.tensor([0, 0, 1, 1])).round()
    tensor([[2.]])
    """
    y_nf, c_nk = (_within(value.double(), group_n) for value in (y_nf, c_nk))
    k = c_nk.shape[1]
    gram_kk = c_nk.T @ c_nk + SHRINKAGE * torch.eye(k, dtype=c_nk.dtype, device=c_nk.device)
    return torch.linalg.solve(gram_kk, c_nk.T @ y_nf).float()


def _within(value_nf: Tensor, group_n: Tensor) -> Tensor:
    """Differences from the mean of the group."""
    groups = int(group_n.max()) + 1
    sums = torch.zeros(groups, value_nf.shape[1], dtype=value_nf.dtype, device=value_nf.device)
    sums.index_add_(0, group_n, value_nf)
    return value_nf - (sums / torch.bincount(group_n, minlength=groups).clamp_min(1)[:, None])[group_n]
