"""Pooling of a set of embeddings, such as those of a donor's cell types, into one.

Shapes: ``n`` donors, ``c`` cell types, ``d`` dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mean_pool(z_ncd: Tensor, present_nc: Tensor) -> Tensor:
    """Mean over the cell types that are there, shape (n, d); 0 where none is.

    Examples
    --------
    >>> mean_pool(torch.tensor([[[1.0], [9.0]]]), torch.tensor([[True, False]]))
    tensor([[1.]])
    """
    weight_nc1 = present_nc.to(z_ncd.dtype)[..., None]
    return (z_ncd * weight_nc1).sum(1) / weight_nc1.sum(1).clamp_min(1.0)


class AttentionPool(nn.Module):
    r"""Weighted mean over the cell types that are there, with learned weights.

    .. math:: w_{nc} = \mathrm{softmax}_c\, (q^\top \tanh(A z_{nc}) + b_c)

    At the start all weights are equal, so that training begins at `mean_pool`.

    Parameters
    ----------
    dim
        Dimensions d.
    n_types
        Number of cell types c.

    References
    ----------
    Ilse, Tomczak and Welling (2018), Attention-based Deep Multiple Instance Learning, eq. 8.
    """

    def __init__(self, dim: int, n_types: int) -> None:
        super().__init__()
        self.inner, self.query = nn.Linear(dim, dim), nn.Linear(dim, 1, bias=False)
        nn.init.zeros_(self.query.weight)
        self.of_type_c = nn.Parameter(torch.zeros(n_types))

    def forward(self, z_ncd: Tensor, present_nc: Tensor) -> Tensor:
        """Pool to (n, d); 0 where no type is there."""
        score_nc = self.query(torch.tanh(self.inner(z_ncd))).squeeze(-1) + self.of_type_c
        score_nc = score_nc.masked_fill(~present_nc, torch.finfo(score_nc.dtype).min)
        weight_nc = score_nc.softmax(-1) * present_nc
        return (weight_nc[..., None] * z_ncd).sum(1)
