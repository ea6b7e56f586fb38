"""Quality of a reconstruction: errors over all entries, and R2 and correlation per gene.

Shapes: n samples, g genes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROWS = 256
CONSTANT = 1e-12


@dataclass(frozen=True)
class GeneSums:
    """Sums per gene from which every reconstruction metric is computed; sums of disjoint batches can be added.

    Parameters
    ----------
    n
        Number of samples summed over; with a row of sums for each resample, an array of shape (b, 1).
    x_g, xx_g
        Sums of the truth and of its square, float64, shape (g,) or (b, g).
    y_g, yy_g
        The same for the reconstruction.
    xy_g
        Sum of the products.
    squared_g, absolute_g
        Sums of squared and of absolute errors.

    Examples
    --------
    >>> x_ng = np.arange(6.0).reshape(3, 2)
    >>> halves = GeneSums.of(x_ng[:1], x_ng[:1] + 1) + GeneSums.of(x_ng[1:], x_ng[1:] + 1)
    >>> halves.metrics()["reconstruction/mse"]
    1.0
    """

    n: int | NDArray[np.float64]
    x_g: NDArray[np.float64]
    xx_g: NDArray[np.float64]
    y_g: NDArray[np.float64]
    yy_g: NDArray[np.float64]
    xy_g: NDArray[np.float64]
    squared_g: NDArray[np.float64]
    absolute_g: NDArray[np.float64]

    @classmethod
    def of(cls, x_ng: NDArray[np.floating], x_hat_ng: NDArray[np.floating]) -> GeneSums:
        """Sum over the samples of two arrays of shape (n, g), in float64, block by block."""
        assert x_ng.shape == x_hat_ng.shape, (x_ng.shape, x_hat_ng.shape)
        sums = np.zeros((7, x_ng.shape[1]))
        for start in range(0, len(x_ng), ROWS):
            x = np.asarray(x_ng[start : start + ROWS], dtype=np.float64)
            y = np.asarray(x_hat_ng[start : start + ROWS], dtype=np.float64)
            error = x - y
            sums[0] += x.sum(0)
            sums[2] += y.sum(0)
            for row, (a, b) in zip((1, 3, 4, 5), ((x, x), (y, y), (x, y), (error, error)), strict=True):
                sums[row] += np.einsum("ng,ng->g", a, b)
            sums[6] += np.abs(error, out=error).sum(0)
        return cls(len(x_ng), *sums)

    def __add__(self, other: GeneSums) -> GeneSums:
        return GeneSums(
            self.n + other.n,
            self.x_g + other.x_g,
            self.xx_g + other.xx_g,
            self.y_g + other.y_g,
            self.yy_g + other.yy_g,
            self.xy_g + other.xy_g,
            self.squared_g + other.squared_g,
            self.absolute_g + other.absolute_g,
        )

    def gene_r2(self) -> NDArray[np.float64]:
        """Compute R2 per gene relative to its mean over held-out samples; NaN if the truth is constant."""
        spread_g = _spread(self.n, self.x_g, self.xx_g)
        return 1 - np.divide(self.squared_g, spread_g, out=np.full_like(spread_g, np.nan), where=spread_g > 0)

    def gene_pearson(self) -> NDArray[np.float64]:
        """Compute the Pearson correlation per gene; NaN if the truth is constant, 0 if the prediction is."""
        x_spread_g = _spread(self.n, self.x_g, self.xx_g)
        y_spread_g = _spread(self.n, self.y_g, self.yy_g)
        common_g = self.xy_g - self.x_g * self.y_g / self.n
        r_g = np.divide(
            common_g,
            np.sqrt(x_spread_g * y_spread_g),
            out=np.zeros_like(common_g),
            where=(x_spread_g > 0) & (y_spread_g > 0),
        )
        return np.where(x_spread_g > 0, np.clip(r_g, -1, 1), np.nan)

    def metrics(self) -> dict[str, float]:
        """Compute the metrics of :func:`reconstruction_metrics`."""
        entries = self.n * len(self.x_g)
        error = self.squared_g.sum()
        spread = _spread(entries, self.x_g.sum(), self.xx_g.sum())
        return {
            "reconstruction/mse": float(error / entries),
            "reconstruction/mae": float(self.absolute_g.sum() / entries),
            "reconstruction/r2": float(1 - error / spread) if spread > 0 else float("nan"),
            "reconstruction/gene_r2_median": _median(self.gene_r2()),
            "reconstruction/gene_pearson_median": _median(self.gene_pearson()),
        }


def reconstruction_metrics(x_ng: NDArray[np.floating], x_hat_ng: NDArray[np.floating]) -> dict[str, float]:
    r"""Compute errors and explained variance of a reconstruction.

    .. math:: R^2 = 1 - \frac{\sum_{ng} (x_{ng} - \hat x_{ng})^2}{\sum_{ng} (x_{ng} - \bar x)^2}

    with one mean :math:`\bar x` over all entries; the R2 per gene uses the mean of the gene.

    Parameters
    ----------
    x_ng
        Truth, shape (n, g), in units standardized with training statistics.
    x_hat_ng
        Reconstruction, same shape and units.

    Returns
    -------
    dict
        ``reconstruction/`` ``mse``, ``mae``, ``r2``, ``gene_r2_median``, ``gene_pearson_median``. Genes that
        are constant in ``x_ng`` are left out of the medians; the correlation of a constant prediction is 0. NaN if all
        genes are constant.

    Examples
    --------
    >>> x_ng = np.array([[0.0, 1.0], [2.0, 5.0]])
    >>> reconstruction_metrics(x_ng, np.full((2, 2), x_ng.mean()))["reconstruction/r2"]
    0.0
    """
    return GeneSums.of(x_ng, x_hat_ng).metrics()


def sample_sums(x_ng: NDArray[np.floating], x_hat_ng: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
    """Sum over genes per sample; metrics over all entries are computed from these sums.

    Parameters
    ----------
    x_ng, x_hat_ng
        Truth and reconstruction, shape (n, g).

    Returns
    -------
    dict
        ``entries``, ``x``, ``xx``, ``squared`` and ``absolute`` (of errors), each of shape (n,), float64.
    """
    error_ng = x_ng - x_hat_ng
    return {
        "entries": np.full(len(x_ng), float(x_ng.shape[1])),
        "x": x_ng.sum(axis=1, dtype=np.float64),
        "xx": np.einsum("ng,ng->n", x_ng, x_ng, dtype=np.float64),
        "squared": np.einsum("ng,ng->n", error_ng, error_ng, dtype=np.float64),
        "absolute": np.abs(error_ng).sum(axis=1, dtype=np.float64),
    }


def _spread(
    n: int | NDArray[np.float64], sums: NDArray[np.float64], squares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sum squares about the mean; rounding errors are set to 0."""
    spread = squares - sums**2 / n
    return np.where(spread > CONSTANT * squares, spread, 0.0)


def _median(values_g: NDArray[np.float64]) -> float:
    """Take the median without NaN; NaN if there are no other values."""
    defined = values_g[~np.isnan(values_g)]
    return float(np.median(defined)) if len(defined) else float("nan")
