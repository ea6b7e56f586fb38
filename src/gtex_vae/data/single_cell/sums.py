"""Sums over groups of cells, streamed: a groupby that never holds more than a block of cells."""

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
    r"""Add up the counts of the cells of each group.

    .. math:: S_{sg} = \sum_{i \in s} w_i\, y_{ig}, \qquad w_i = 1 \text{ or } 10^6 / \textstyle\sum_h y_{ih}

    Each block of cells is summed by a product with a sparse indicator matrix and added to one dense array of groups x
    genes, which is all that grows with the data.

    Parameters
    ----------
    cells
        Opened by `gtex_vae.data.single_cell.cells.open_cells`.
    group_i
        Group of each cell, -1 to leave it out.
    n_groups
        Number of groups.
    method
        ``sum``: w = 1. ``mean``: each cell counts the same whatever its depth; divide by the group's size.
    rows
        Cells in a block; it does not change the result.

    Returns
    -------
    numpy.ndarray
        Groups x genes: int32, exact, for sums of whole numbers (int64 where 2^31 could be reached), else float32.

    Raises
    ------
    DataError
        A value is negative, missing or infinite, or they are logarithms.
    """
    n_genes = cells.element.shape[1]
    total = np.zeros((n_groups, n_genes), np.int32 if method == "sum" else np.float32)
    count_s = np.zeros(n_groups)
    group_i = np.asarray(group_i, np.int64)
    with tqdm(
        total=len(group_i), desc="add up cells", unit=" cells", delay=2, leave=False, disable=None
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
    """Add the sums of a block to those of all, in place."""
    if not sp.issparse(block):
        total[rows] += block.astype(total.dtype)
        return
    block = block.tocoo()
    # each entry occurs once, so that an indexed sum loses nothing
    total[rows[block.row], block.col] += block.data.astype(total.dtype)


def _check(cells: Cells, block: slice, values: Any) -> bool:
    """Refuse what cannot be added up; tell whether all are whole numbers."""
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
            f"{cells.where}: fractions up to {high:.3g} in {rows} are logarithms, which cannot be added up; "
            f"give layer= of the counts (there are {others})"
        )
    return whole


def to_log2_million(x_sg: np.ndarray) -> np.ndarray:
    r"""Scale each row to a million and take :math:`\log_2(x + 1)`; a row of zeros stays so.

    There is no division by gene lengths: the counts of a method that reads one end of each molecule do not depend on
    them, so these values are comparable with TPM.

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
