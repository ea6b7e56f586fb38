"""Standardization fitted on training samples and saved with the model.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gtex_vae.errors import ConfigError, DataError

Method = Literal["standard", "robust"]

BLOCK_VALUES = 1 << 18  # of a float64 block that fits into the cache
READ_VALUES = 1 << 24  # read at once from disk
PROBED_ROWS = 256

# Interquartile range of the standard normal, so that both methods agree on Gaussian genes.
NORMAL_IQR = 1.3489795


class Rows(Protocol):
    """Matrix (n, g) whose rows are read as float32 by an index array: an array, or a matrix on disk."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    def __getitem__(self, rows: Any, /) -> np.ndarray: ...


class Standardizer(nn.Module):
    r"""Standardization of each gene, (x - center) / scale, with the statistics as buffers.

    Genes that do not vary over the training samples get scale 1: there they become 0, and in other data they are the
    difference from the training value in expression units. Genes that hardly vary get scale ``min_scale``: a gene
    expressed in only one training sample could otherwise be hundreds of standard deviations off in a held-out sample,
    and a few such entries would dominate every mean squared error.

    Parameters
    ----------
    n_genes
        Number of genes g.
    method
        ``standard``: mean and standard deviation (divisor n). ``robust``: median and interquartile range / 1.349;
        if that range is 0 (genes not expressed in most samples), the standard deviation is used.
    clip
        Limit of the absolute standardized value, or ``None``.
    min_scale
        Minimum scale of a gene that varies, in expression units. The default, 0.05 in log2(TPM+1), is below the
        resolution of sequencing.

    Attributes
    ----------
    constant
        Columns that do not vary, after `fit`.

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

    def fit(self, x_ng: Rows, rows: np.ndarray | None = None) -> Standardizer:
        """Fit the statistics to the given rows of a float32 matrix (n, g), in float64, without copying it.

        Raises
        ------
        DataError
            The rows contain NaN or infinite values.
        ConfigError
            The method is ``robust`` and the matrix is on disk.
        """
        rows = np.arange(x_ng.shape[0]) if rows is None else np.asarray(rows)
        center, scale = _moments(x_ng, rows)
        if not np.isfinite(scale).all():
            gene = int(np.flatnonzero(~np.isfinite(scale))[0])
            raise DataError(f"NaN or infinite expression in gene column {gene} of the training samples")
        if self.method == "robust":
            if not isinstance(x_ng, np.ndarray):
                raise ConfigError(
                    "data.standardize=robust requires the matrix in memory: raise data.memory_gib, or use "
                    "data.standardize=standard"
                )
            center, scale = _quantiles(x_ng, rows, scale)
        # relative to the center: a constant gene has rounding noise, not variance
        self.constant = np.flatnonzero(scale <= 1e-6 * (1.0 + np.abs(center)))
        scale = np.maximum(scale, self.min_scale)
        scale[self.constant] = 1.0
        self.center_g.copy_(torch.from_numpy(center))
        self.scale_g.copy_(torch.from_numpy(scale))
        return self

    def agrees_with(self, center_g: Tensor, scale_g: Tensor) -> bool:
        """Return whether the statistics equal the given ones, up to rounding differences between machines."""
        pairs = ((self.center_g, center_g), (self.scale_g, scale_g))
        return all(
            own.shape == other.shape and torch.allclose(own.cpu(), other.cpu(), rtol=1e-4, atol=1e-5)
            for own, other in pairs
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"method": self.method, "clip": self.clip, "min_scale": self.min_scale}

    def forward(self, x_ng: Tensor) -> Tensor:
        """Standardize expression (n, g)."""
        z_ng = (x_ng - self.center_g) / self.scale_g
        return z_ng if self.clip is None else z_ng.clamp(-self.clip, self.clip)

    def apply_(self, x_ng: np.ndarray) -> np.ndarray:
        """Standardize a float32 matrix (n, g) in place, a block of rows at a time, and return it."""
        center_g, scale_g = self.center_g.cpu().numpy(), self.scale_g.cpu().numpy()
        step = max(1, BLOCK_VALUES // max(1, x_ng.shape[1]))
        for start in range(0, len(x_ng), step):
            block = x_ng[start : start + step]
            block -= center_g
            block /= scale_g
            if self.clip is not None:
                np.clip(block, -self.clip, self.clip, out=block)
        return x_ng

    def inverse(self, z_ng: Tensor) -> Tensor:
        """Convert standardized values (n, g) to expression units."""
        return z_ng * self.scale_g + self.center_g


def _moments(x_ng: Rows, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (divisor n) of each gene, in one pass over the rows.

    Sums are of differences from the mean of a few rows, in float64: sums of squares of the values themselves would lose
    the variance of a highly expressed gene that hardly varies.
    """
    few = rows[np.unique(np.linspace(0, len(rows) - 1, PROBED_ROWS).astype(int))]
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, which is refused later
        origin_g = np.asarray(x_ng[few]).mean(0, dtype=np.float64)
        sum_g, squares_g = np.zeros_like(origin_g), np.zeros_like(origin_g)
        for block in _blocks(x_ng, rows):
            away = block - origin_g
            sum_g += away.sum(0)
            squares_g += np.einsum("ng,ng->g", away, away)
        away_g = sum_g / len(rows)
        variance_g = squares_g / len(rows) - away_g**2
        return origin_g + away_g, np.sqrt(np.where(variance_g < 0.0, 0.0, variance_g))


def _quantiles(x_ng: np.ndarray, rows: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return median and interquartile range / 1.349 of each gene; the given scale where that range is 0."""
    center, scale = np.empty(x_ng.shape[1]), scale.copy()
    for genes in np.array_split(np.arange(x_ng.shape[1]), max(1, x_ng.shape[1] // 512)):
        x = x_ng[rows, genes[0] : genes[-1] + 1].astype(np.float64)
        low, center[genes], high = np.quantile(x, (0.25, 0.5, 0.75), axis=0)
        spread = (high - low) / NORMAL_IQR
        scale[genes] = np.where(spread > 0.0, spread, scale[genes])
    return center, scale


def _blocks(x_ng: Rows, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield blocks of rows that fit into the cache; a matrix on disk is read in larger pieces."""
    genes = max(1, x_ng.shape[1])
    step = max(1, BLOCK_VALUES // genes)
    piece = step if isinstance(x_ng, np.ndarray) else max(step, READ_VALUES // genes)
    for first in range(0, len(rows), piece):
        taken = x_ng[rows[first : first + piece]]
        for start in range(0, len(taken), step):
            yield taken[start : start + step]
