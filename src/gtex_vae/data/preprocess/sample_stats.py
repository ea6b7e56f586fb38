"""Library size, detected genes and outliers: what can be said of each sample without its annotations.

Shape suffixes: n samples, g genes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from gtex_vae.data.genes.columns import Matrix
from gtex_vae.data.units import log_offset

ROWS = 256
# GTEx calls a gene expressed above 0.1 TPM
DETECTED = 0.1
MIN_GROUP = 20
MIN_SPREAD = {"library_size": 0.01, "detected_genes": 10.0, "top50_share": 0.01}


def blocks(x_ng: Matrix, rows: int = ROWS) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    """Walk over a matrix, dense, sparse or on disk, in dense blocks of samples.

    Yields
    ------
    slice
        Rows of the block.
    ndarray
        Float32, at most ``rows`` x g.
    """
    for start in range(0, x_ng.shape[0], rows):
        part = slice(start, min(start + rows, x_ng.shape[0]))
        block = x_ng[part]
        yield part, np.asarray(block.toarray() if sp.issparse(block) else block, dtype=np.float32)


def linear(x_ng: npt.NDArray[np.float32], unit: str) -> npt.NDArray[np.float32]:
    """Undo the logarithm of a unit ``log2(v+c)``; a linear unit is returned as it is.

    >>> linear(np.float32([0, 1, 2]), "log2(TPM+1)")
    array([0., 1., 3.], dtype=float32)
    """
    offset = log_offset(unit)
    return x_ng if offset is None else np.maximum(np.exp2(x_ng) - np.float32(offset), 0)


def sample_stats(x_ng: Matrix, unit: str) -> pd.DataFrame:
    """Measure each sample in one pass.

    Parameters
    ----------
    x_ng
        Samples x genes, dense or CSR.
    unit
        Unit of ``x_ng``.

    Returns
    -------
    DataFrame
        One row per sample: ``library_size`` (sum on the linear scale), ``detected_genes`` (above 0.1 on the
        linear scale), ``top50_share`` (of the library, in its 50 highest genes), ``missing_share`` (of the
        entries, not finite).
    """
    columns = ("library_size", "detected_genes", "top50_share", "missing_share")
    stats = np.zeros((x_ng.shape[0], len(columns)))
    top = min(50, x_ng.shape[1])
    for part, block in blocks(x_ng):
        finite = np.isfinite(block)
        value = linear(np.where(finite, block, 0), unit) if not finite.all() else linear(block, unit)
        library = value.sum(axis=1, dtype=np.float64)
        highest = np.partition(value, value.shape[1] - top, axis=1)[:, -top:].sum(axis=1, dtype=np.float64)
        share = np.divide(highest, library, out=np.zeros_like(library), where=library > 0)
        stats[part] = np.column_stack(
            [library, (value > DETECTED).sum(axis=1), share, 1 - finite.mean(axis=1)]
        )
    frame = pd.DataFrame(stats, columns=list(columns))
    return frame.astype({"detected_genes": np.int64})


def outliers(
    stats: pd.DataFrame, groups: pd.Series[Any] | None = None, *, n_mads: float = 8.0
) -> pd.DataFrame:
    r"""Mark samples far from the median in library size, detected genes or the share of the top 50 genes.

    A value is an outlier where :math:`|v - \mathrm{median}| > k \cdot 1.4826\,\mathrm{MAD}`, of the logarithm
    of the library size, and only above the median of the top-50 share (a library that a few genes fill).

    Parameters
    ----------
    stats
        As :func:`sample_stats` gives it.
    groups
        Tissue of each sample, in the same order: median and MAD are then of the tissue, since blood is not
        strange for being unlike brain. Samples without one, or in a tissue of fewer than 20 samples, are held
        against all samples.
    n_mads
        k, in robust standard deviations.

    Returns
    -------
    DataFrame
        Boolean columns ``empty``, ``library_size``, ``detected_genes``, ``top50_share``.
    """
    filled = stats["library_size"].to_numpy() > 0
    measures = {
        "library_size": np.log10(stats["library_size"].where(filled)),
        "detected_genes": stats["detected_genes"].where(filled).astype(float),
        "top50_share": stats["top50_share"].where(filled),
    }
    flags = {"empty": ~filled}
    for name, value in measures.items():
        centre, spread = _median_and_spread(value, groups)
        # a TPM library always sums to 1e6: without a spread there is no ground for a verdict
        away = (value - centre) / np.maximum(spread, MIN_SPREAD[name])
        flags[name] = ((away if name == "top50_share" else away.abs()) > n_mads).to_numpy()
    return pd.DataFrame(flags, index=stats.index)


def _median_and_spread(value: pd.Series[Any], groups: pd.Series[Any] | None) -> tuple[Any, Any]:
    """Median and 1.4826 MAD that each sample is held against."""
    median = value.median()
    spread = 1.4826 * (value - median).abs().median()
    if groups is None:
        return median, spread
    keys = groups.astype(object).to_numpy()
    by_tissue = value.groupby(keys)
    own_median = by_tissue.transform("median")
    own_spread = 1.4826 * (value - own_median).abs().groupby(keys).transform("median")
    enough = by_tissue.transform("count") >= MIN_GROUP
    return own_median.where(enough, median), own_spread.where(enough, spread)
