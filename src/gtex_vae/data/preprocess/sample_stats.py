"""Quality of each sample: library size, detected genes, and outliers.

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
# GTEx counts a gene as expressed above 0.1 TPM
DETECTED = 0.1
MIN_GROUP = 20
MIN_SPREAD = {"library_size": 0.01, "detected_genes": 10.0, "top50_share": 0.01}


def blocks(x_ng: Matrix, rows: int = ROWS) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    """Iterate over a matrix, dense, sparse or on disk, in dense blocks of samples.

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
    """Undo the logarithm of a unit ``log2(v+c)``; values in a linear unit are returned unchanged.

    >>> linear(np.float32([0, 1, 2]), "log2(TPM+1)")
    array([0., 1., 3.], dtype=float32)
    """
    offset = log_offset(unit)
    return x_ng if offset is None else np.maximum(np.exp2(x_ng) - np.float32(offset), 0)


def sample_stats(x_ng: Matrix, unit: str) -> pd.DataFrame:
    """Compute the statistics of each sample in one pass.

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
        linear scale), ``top50_share`` (share of the library in its 50 highest genes), ``missing_share`` (share
        of values that are not finite).
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
    r"""Mark samples far from the median in library size, detected genes or share of the top 50 genes.

    A value is an outlier if :math:`|v - \mathrm{median}| > k \cdot 1.4826\,\mathrm{MAD}`, with v the logarithm of the
    library size, or the number of detected genes; the top-50 share only if it is above the median (few genes dominate).

    Parameters
    ----------
    stats
        Result of :func:`sample_stats`.
    groups
        Tissue of each sample, in the same order: median and MAD are then those of the tissue, since tissues differ.
        Samples without a tissue, or in a tissue of fewer than 20 samples, are compared with all samples.
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
        # minimum spread, since the library size of TPM is always 1e6
        away = (value - centre) / np.maximum(spread, MIN_SPREAD[name])
        flags[name] = ((away if name == "top50_share" else away.abs()) > n_mads).to_numpy()
    return pd.DataFrame(flags, index=stats.index)


def _median_and_spread(value: pd.Series[Any], groups: pd.Series[Any] | None) -> tuple[Any, Any]:
    """Return the median and 1.4826 MAD that each sample is compared with."""
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
