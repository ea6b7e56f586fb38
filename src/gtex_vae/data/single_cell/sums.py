"""Sums of counts over groups of cells, computed in blocks."""

# i cells, s groups, g genes

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from tqdm import tqdm

from gtex_vae.data.single_cell.cells import Cells
from gtex_vae.errors import DataError

LARGEST_LOGARITHM = 30.0
MILLION = 1e6


def sum_groups(
    cells: Cells,
    group_i: np.ndarray,
    n_groups: int,
    *,
    method: Literal["sum", "mean"] = "sum",
    rows: int | None = None,
) -> np.ndarray:
    r"""Sum the counts of the cells of each group.

    .. math:: S_{sg} = \sum_{i \in s} w_i\, y_{ig}, \qquad w_i = 1 \text{ or } 10^6 / \textstyle\sum_h y_{ih}

    Each block of cells is multiplied with a sparse indicator matrix and added to a dense array of groups x genes, the
    only array that grows with the data.

    Parameters
    ----------
    cells
        Opened by `gtex_vae.data.single_cell.cells.open_cells`.
    group_i
        Group of each cell, -1 to skip it.
    n_groups
        Number of groups.
    method
        ``sum``: w = 1. ``mean``: w scales each cell to a million; the caller divides by the group's size.
    rows
        Cells per block; does not change the result.

    Returns
    -------
    numpy.ndarray
        Groups x genes; exact int32 for whole numbers (int64 if 2^31 could be reached), otherwise float32.

    Raises
    ------
    DataError
        A value is negative, missing or infinite, or the values are logarithms.
    """
    n_genes = cells.element.shape[1]
    total = np.zeros((n_groups, n_genes), np.int32 if method == "sum" else np.float32)
    count_s = np.zeros(n_groups)
    group_i = np.asarray(group_i, np.int64)
    with tqdm(
        total=len(group_i), desc="summing cells", unit=" cells", delay=2, leave=False, disable=None
    ) as progress:
        for block, values in cells.blocks(rows):
            whole = _check(cells, block, values)
            if not whole and total.dtype.kind == "i":
                total = total.astype(np.float32)
            group = group_i[block]
            kept = np.flatnonzero(group >= 0)
            present, position = np.unique(group[kept], return_inverse=True)
            weight = np.ones(len(kept))
            if method == "mean":
                depth = np.asarray(values.sum(axis=1), np.float64).ravel()[kept]
                weight = np.divide(MILLION, depth, out=np.zeros(len(kept)), where=depth > 0)
            indicator = sp.csr_array((weight, (position, kept)), shape=(len(present), len(group)))
            if total.dtype == np.int32:
                count_s[present] += indicator @ np.asarray(values.sum(axis=1), np.float64).ravel()
                if count_s.max(initial=0.0) >= np.iinfo(np.int32).max:
                    total = total.astype(np.int64)
            _add(total, present, indicator @ values)
            progress.update(len(group))
    return total


def _add(total: np.ndarray, rows: np.ndarray, block: Any) -> None:
    """Add the sums of a block to the totals, in place."""
    if not sp.issparse(block):
        total[rows] += block.astype(total.dtype)
        return
    block = block.tocoo()
    # each entry occurs once, so an indexed sum is exact
    total[rows[block.row], block.col] += block.data.astype(total.dtype)


def _check(cells: Cells, block: slice, values: Any) -> bool:
    """Raise if values cannot be summed; return True if all are whole numbers."""
    data = values.data if sp.issparse(values) else values
    low, high = float(np.min(data, initial=0.0)), float(np.max(data, initial=0.0))
    rows = f"cells {block.start} to {block.stop - 1}"
    if not np.isfinite(low + high):
        raise DataError(f"{cells.where}: missing or infinite values in {rows}")
    others = ", ".join(name for name in ("X", *cells.layers))
    if low < 0:
        raise DataError(
            f"{cells.where}: negative values in {rows}; give layer= of the counts (there are {others})"
        )
    if data.dtype.kind in "iub":
        return True
    whole = bool((data == np.rint(data)).all())
    if not whole and high < LARGEST_LOGARITHM:
        raise DataError(
            f"{cells.where}: fractions up to {high:.3g} in {rows} are logarithms, which cannot be summed; "
            f"give layer= of the counts (there are {others})"
        )
    return whole


def to_log2_million(x_sg: np.ndarray) -> np.ndarray:
    r"""Scale each row to a million and take :math:`\log_2(x + 1)`; a row of zeros stays zero.

    Counts are not divided by gene lengths: methods that read one end of each molecule give counts that do not depend on
    length, so these values are comparable with TPM.

    >>> to_log2_million(np.array([[1, 3], [0, 0]])).round(3)
    array([[17.932, 19.517],
           [ 0.   ,  0.   ]], dtype=float32)
    """
    out = np.empty(x_sg.shape, np.float32)
    for start in range(0, len(x_sg), 256):
        rows = slice(start, start + 256)
        total = x_sg[rows].sum(axis=1, dtype=np.float64, keepdims=True)
        scale = np.divide(MILLION, total, out=np.zeros_like(total), where=total > 0)
        out[rows] = np.log2(x_sg[rows] * scale + 1.0)
    return out
