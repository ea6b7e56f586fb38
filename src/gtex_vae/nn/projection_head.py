"""Projection head between an embedding and a contrastive loss."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from gtex_vae.errors import ConfigError
from gtex_vae.nn.mlp import MLP, xavier_linear


class ProjectionHead(nn.Module):
    """MLP with ReLU between its layers and a linear last one, alone or added to its input.

    Parameters
    ----------
    in_features
        Dimensions d of the embedding.
    widths
        Of the layers; empty for the identity.
    residual
        The MLP adds to its input, and adds nothing at the start.

    Raises
    ------
    ConfigError
        A width is impossible.

    Examples
    --------
    >>> import torch
    >>> ProjectionHead(8, [16, 4])(torch.zeros(3, 8)).shape
    torch.Size([3, 4])
    """

    def __init__(self, in_features: int, widths: Sequence[int], *, residual: bool = False) -> None:
        super().__init__()
        if any(width < 1 for width in widths):
            raise ConfigError(f"the widths of a projection head, {list(widths)}, must be positive")
        self.mlp: nn.Module | None = None
        self.residual = residual
        if not widths:
            return
        if residual and widths[-1] != in_features:
            raise ConfigError(
                f"a residual head, {list(widths)}, must end in the width of the embedding, {in_features}"
            )
        hidden = MLP(in_features, widths[:-1], norm="none", activation="relu", dropout=0.0)
        last = xavier_linear(hidden.out_features, widths[-1])
        if residual:
            nn.init.zeros_(last.weight)
        self.mlp = nn.Sequential(hidden, last)

    def forward(self, z_nd: Tensor) -> Tensor:
        """Project (n, d) to (n, p)."""
        if self.mlp is None:
            return z_nd
        projected: Tensor = self.mlp(z_nd)
        return z_nd + projected if self.residual else projected
