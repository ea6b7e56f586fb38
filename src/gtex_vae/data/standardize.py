"""Standardization fitted on training samples, kept as part of the saved model.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from gtex_vae.errors import ConfigError, DataError

Method = Literal["standard", "robust"]

NORMAL_IQR = (
    1.3489795  # interquartile range of the standard normal, so that both methods agree on Gaussian genes
)


class Standardizer(nn.Module):
    r"""Per gene (x - center) / scale, with the statistics as buffers.

    Genes that do not vary over the training samples get scale 1: they become 0 there, and other data shows its
    distance from the training value in expression units instead of a division by zero. Genes that hardly vary get
    ``min_scale``: a gene silent in all but one training sample would otherwise put a held-out sample hundreds of
    standard deviations out, and a handful of such entries would decide every mean squared error.

    Parameters
    ----------
    n_genes
        Number of genes g.
    method
        ``standard``: mean and standard deviation (divisor n). ``robust``: median and interquartile range / 1.349;
        where that range is 0 (genes silent in most samples) the standard deviation is used.
    clip
        Limit of the absolute standardized value, or ``None``.
    min_scale
        Least scale of a gene that varies, in expression units. The default, 0.05 in log2(TPM+1), is below what
        sequencing resolves.

    Attributes
    ----------
    constant
        After `fit`, the columns that do not vary.

    Examples
    --------
    >>> scaler = Standardizer(2).fit(np.array([[0.0, 5.0], [2.0, 5.0]], dtype=np.float32))
    >>> scaler(torch.tensor([[2.0, 6.0]]))
    tensor([[1., 1.]])
    """

    center_g: Tensor
    scale_g: Tensor

    def __init__(
        self, n_genes: int, *, method: Method = "standard", clip: float | None = None, min_scale: float = 0.05
    ) -> None:
        super().__init__()
        if min_scale < 0.0:
            raise ConfigError(f"data.min_scale={min_scale} must not be negative")
        if clip is not None and clip <= 0.0:
            raise ConfigError(f"data.clip={clip} must be positive, or null")
        self.method, self.clip, self.min_scale = method, clip, min_scale
        self.constant = np.empty(0, dtype=int)
        self.register_buffer("center_g", torch.zeros(n_genes))
        self.register_buffer("scale_g", torch.ones(n_genes))

    def fit(self, x_ng: np.ndarray, rows: np.ndarray | None = None) -> Standardizer:
        """Take the statistics from the given rows of a float32 matrix (n, g), in float64, without copying it.

        Raises
        ------
        DataError
            The rows hold NaN or infinite values.
        """
        rows = np.arange(len(x_ng)) if rows is None else np.asarray(rows)
        center = np.empty(x_ng.shape[1])
        scale = np.empty(x_ng.shape[1])
        for block in np.array_split(np.arange(x_ng.shape[1]), max(1, x_ng.shape[1] // 512)):
            x = x_ng[rows, block[0] : block[-1] + 1].astype(np.float64)
            with np.errstate(invalid="ignore"):  # infinity less infinity: refused below
                center[block], scale[block] = x.mean(0), x.std(0)
            if not np.isfinite(scale[block]).all():
                gene = block[~np.isfinite(scale[block])][0]
                raise DataError(f"NaN or infinite expression in gene column {gene} of the training samples")
            if self.method == "robust":
                low, center[block], high = np.quantile(x, (0.25, 0.5, 0.75), axis=0)
                spread = (high - low) / NORMAL_IQR
                scale[block] = np.where(spread > 0.0, spread, scale[block])
        # relative to the center: a constant gene has rounding noise, not variance
        self.constant = np.flatnonzero(scale <= 1e-6 * (1.0 + np.abs(center)))
        scale = np.maximum(scale, self.min_scale)
        scale[self.constant] = 1.0
        self.center_g.copy_(torch.from_numpy(center))
        self.scale_g.copy_(torch.from_numpy(scale))
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments, plain."""
        return {"method": self.method, "clip": self.clip, "min_scale": self.min_scale}

    def forward(self, x_ng: Tensor) -> Tensor:
        """Standardize expression (n, g)."""
        z_ng = (x_ng - self.center_g) / self.scale_g
        return z_ng if self.clip is None else z_ng.clamp(-self.clip, self.clip)

    def apply_(self, x_ng: np.ndarray) -> np.ndarray:
        """Standardize a float32 matrix (n, g) in place, a block of rows at a time, and return it."""
        for start in range(0, len(x_ng), 1024):
            rows = torch.from_numpy(x_ng[start : start + 1024])
            rows.copy_(self(rows))
        return x_ng

    def inverse(self, z_ng: Tensor) -> Tensor:
        """Back to expression units (n, g)."""
        return z_ng * self.scale_g + self.center_g
