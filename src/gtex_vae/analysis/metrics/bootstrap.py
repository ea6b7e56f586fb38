"""Bootstrap intervals over donors, of a metric and of the difference of two methods.

Shapes: n samples, b bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.metrics.reconstruction import GeneSums

RESAMPLES = 2000
GENE_RESAMPLES = 500
RESAMPLES_AT_A_TIME = 50


class Interval(NamedTuple):
    """A value and its bootstrap percentile interval."""

    value: float
    low: float
    high: float


def metric(name: str, totals: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Compute a metric from sums over samples.

    Parameters
    ----------
    name
        Key of the metrics file without a method's prefix.
    totals
        Column of a table of :class:`~gtex_vae.analysis.evaluation.score.Scores` to its sum. All arrays have the same
        shape, for example one entry per resample.

    Returns
    -------
    ndarray
        Values of the metric, in that shape; NaN where it is undefined.

    Raises
    ------
    KeyError
        The metric cannot be computed from sums.

    Examples
    --------
    >>> float(metric("reconstruction/mse", {"squared": np.array(3.0), "entries": np.array(4.0)}))
    0.75
    """
    group, _, what = name.partition("/")
    with np.errstate(divide="ignore", invalid="ignore"):
        if group == "reconstruction" and what in {"mse", "mae"}:
            return totals["squared" if what == "mse" else "absolute"] / totals["entries"]
        if name == "reconstruction/r2":
            return 1 - totals["squared"] / (totals["xx"] - totals["x"] ** 2 / totals["entries"])
        if group == "imputation":
            rate = what.removeprefix("r2_")
            return 1 - totals[f"hidden_squared_{rate}"] / totals[f"hidden_spread_{rate}"]
        if group == "tissue":
            return totals[f"{what.removesuffix('_accuracy')}_right"] / totals["labelled"]
    raise KeyError(name)


def metric_names(samples: pd.DataFrame) -> list[str]:
    """List the metrics that :func:`metric` can compute from the columns of a table of samples.

    >>> metric_names(pd.DataFrame(columns=["entries", "squared", "hidden_squared_05"]))
    ['reconstruction/mse', 'imputation/r2_05']
    """
    names = []
    if "squared" in samples:
        names.append("reconstruction/mse")
    if "absolute" in samples:
        names.append("reconstruction/mae")
    if "xx" in samples:
        names.append("reconstruction/r2")
    for column in map(str, samples):
        if column.startswith("hidden_squared_"):
            names.append(f"imputation/r2_{column.removeprefix('hidden_squared_')}")
        if column.endswith("_right"):
            names.append(f"tissue/{column.removesuffix('_right')}_accuracy")
    return names


def interval(
    name: str,
    samples: pd.DataFrame,
    donors: pd.Series | NDArray,
    *,
    against: pd.DataFrame | None = None,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Compute the percentile interval over donors of a metric, or of the paired difference of two methods.

    Donors are drawn with replacement, each with all of its samples, since samples of one donor are not
    independent. Only sums per donor are resampled, so thousands of resamples cost milliseconds.

    Parameters
    ----------
    name
        Key of the metrics file without a method's prefix.
    samples
        The method's table of samples, of :class:`~gtex_vae.analysis.evaluation.score.Scores`.
    donors
        Donor of each sample, shape (n,).
    against
        Another method's table. The interval is then of ``samples`` minus ``against``, in the same resamples.
    resamples
        Number of bootstrap resamples b.
    level
        Coverage of the interval.
    seed
        Seed of the resamples. The same seed draws the same donors for every metric and method.

    Returns
    -------
    Interval
        Value on all samples, and the two bounds. Resamples in which the metric is undefined are left out.

    References
    ----------
    Efron, Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.

    Examples
    --------
    >>> samples = pd.DataFrame({"squared": [1.0, 1.0, 4.0], "entries": [1, 1, 1]})
    >>> interval("reconstruction/mse", samples, np.array(["a", "a", "b"]))
    Interval(value=2.0, low=1.0, high=4.0)
    """
    codes_n, counts_bd = _draw(donors, resamples, seed)
    values_b, value = _resample(name, samples, codes_n, counts_bd)
    if against is not None:
        other_b, other = _resample(name, against, codes_n, counts_bd)
        values_b, value = values_b - other_b, value - other
    return _percentile(value, values_b, level)


def gene_interval(
    name: str,
    x_ng: NDArray[np.floating],
    x_hat_ng: NDArray[np.floating],
    donors: pd.Series | NDArray,
    *,
    against_ng: NDArray[np.floating] | None = None,
    resamples: int = GENE_RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Compute the percentile interval over donors of a median over genes, or of a paired difference of two.

    Parameters
    ----------
    name
        ``reconstruction/gene_r2_median`` or ``reconstruction/gene_pearson_median``.
    x_ng, x_hat_ng
        Truth and reconstruction, shape (n, g).
    donors
        Donor of each sample, shape (n,).
    against_ng
        Another method's reconstruction.
    resamples, level, seed
        As for :func:`interval`; fewer resamples, because each is computed for every gene.

    Returns
    -------
    Interval
        As of :func:`interval`.
    """
    codes_n, counts_bd = _draw(donors, resamples, seed)
    values_b, value = _resample_genes(name, x_ng, x_hat_ng, codes_n, counts_bd)
    if against_ng is not None:
        other_b, other = _resample_genes(name, x_ng, against_ng, codes_n, counts_bd)
        values_b, value = values_b - other_b, value - other
    return _percentile(value, values_b, level)


def _percentile(value: float, values_b: NDArray[np.float64], level: float) -> Interval:
    """Take the bounds from the resamples in which the metric is defined."""
    values_b = values_b[np.isfinite(values_b)]
    if not len(values_b):
        return Interval(value, float("nan"), float("nan"))
    tail = (1 - level) / 2
    low, high = np.quantile(values_b, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def _draw(
    donors: pd.Series | NDArray, resamples: int, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Number the donors, and draw them."""
    codes_n, names = pd.factorize(np.asarray(donors, dtype=object), use_na_sentinel=False)
    return codes_n, draw_donors(len(names), resamples, seed)


def draw_donors(donors: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """Draw donors with replacement: counts of shape (b, donors), each row summing to ``donors``."""
    random = np.random.default_rng(seed)
    return random.multinomial(donors, np.full(donors, 1 / donors), size=resamples).astype(np.float64)


def _resample(
    name: str, samples: pd.DataFrame, codes_n: NDArray[np.intp], counts_bd: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Compute the metric in every resample and on all samples."""
    sums = samples.select_dtypes(["number", "bool"]).astype(np.float64)
    of_donors = sums.groupby(codes_n).sum().to_numpy()
    totals_bs = counts_bd @ of_donors
    names = [str(column) for column in sums]
    values_b = metric(name, dict(zip(names, totals_bs.T, strict=True)))
    return values_b, float(metric(name, dict(zip(names, of_donors.sum(axis=0), strict=True))))


def _resample_genes(
    name: str,
    x_ng: NDArray[np.floating],
    x_hat_ng: NDArray[np.floating],
    codes_n: NDArray[np.intp],
    counts_bd: NDArray[np.float64],
) -> tuple[NDArray[np.float64], float]:
    """Compute the median over genes in every resample and on all samples."""
    by_donor = [
        GeneSums.of(x_ng[codes_n == code], x_hat_ng[codes_n == code]) for code in range(counts_bd.shape[1])
    ]
    sums = {
        field.name: np.array([getattr(donor, field.name) for donor in by_donor], dtype=np.float64)
        for field in fields(GeneSums)
    }
    sums["n"] = sums["n"][:, None]
    per_gene = {
        "reconstruction/gene_r2_median": GeneSums.gene_r2,
        "reconstruction/gene_pearson_median": GeneSums.gene_pearson,
    }[name]

    def medians(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.nanmedian(
            per_gene(GeneSums(**{key: counts @ of_donors for key, of_donors in sums.items()})), axis=1
        )

    blocks = np.array_split(counts_bd, max(1, len(counts_bd) // RESAMPLES_AT_A_TIME))
    values_b = np.concatenate([medians(block) for block in blocks])
    return values_b, float(medians(np.ones((1, counts_bd.shape[1])))[0])
