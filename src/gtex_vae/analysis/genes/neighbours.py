"""Most similar genes by cosine.

Shapes: ``g`` genes, ``r`` requested genes, ``d`` latent dimensions, ``k`` neighbours.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

GENES_AT_A_TIME = 256


def cosine_neighbours(
    embedding_gd: NDArray[np.floating], k: int, *, rows: NDArray[np.intp] | None = None
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Find the ``k`` genes of highest cosine similarity to each gene, best first.

    Memory stays small: 256 genes at a time are compared with all genes.

    Parameters
    ----------
    embedding_gd
        Gene embedding, shape (g, d); a zero row has similarity 0 to every gene.
    k
        Number of neighbours; at most the number of other genes.
    rows
        Positions of the requested genes, shape (r,); all if None.

    Returns
    -------
    index_rk, cosine_rk
        Positions of the neighbours and their similarity, shape (r, k).

    Examples
    --------
    >>> index_gk, cosine_gk = cosine_neighbours(np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 3.0]]), 1)
    >>> index_gk[:, 0].tolist()
    [1, 0, 1]
    """
    embedding_gd = np.asarray(embedding_gd, dtype=np.float32)
    unit_gd = embedding_gd / np.maximum(np.linalg.norm(embedding_gd, axis=1, keepdims=True), 1e-12)
    g = len(unit_gd)
    rows = np.arange(g) if rows is None else np.asarray(rows, dtype=np.intp)
    k = min(k, g - 1)
    index_rk, cosine_rk = np.empty((len(rows), k), dtype=np.intp), np.empty((len(rows), k), dtype=np.float32)
    for start in range(0, len(rows), GENES_AT_A_TIME):
        block = rows[start : start + GENES_AT_A_TIME]
        # negated, so that the best come first without a copy
        apart = unit_gd[block] @ -unit_gd.T
        places = np.arange(len(block))
        apart[places, block] = np.inf
        best = np.argpartition(apart, k - 1, axis=1)[:, :k] if k else np.empty((len(block), 0), np.intp)
        values = np.take_along_axis(apart, best, axis=1)
        order = np.argsort(values, axis=1, kind="stable")
        index_rk[start : start + len(block)] = np.take_along_axis(best, order, axis=1)
        cosine_rk[start : start + len(block)] = -np.take_along_axis(values, order, axis=1)
    return index_rk, cosine_rk


def neighbour_rows(
    names: pd.Series,
    index_rk: NDArray[np.intp],
    cosine_rk: NDArray[np.float32],
    *,
    rows: NDArray[np.intp] | None = None,
) -> pd.DataFrame:
    """Make a table of neighbours, one row per pair.

    Parameters
    ----------
    names
        Name of every gene, indexed by id.
    index_rk, cosine_rk, rows
        See `cosine_neighbours`.

    Returns
    -------
    DataFrame
        ``gene_id``, ``gene_name``, ``rank`` (from 1), ``neighbour_id``, ``neighbour_name``, ``cosine``.
    """
    r, k = index_rk.shape
    own, found = np.repeat(np.arange(r) if rows is None else rows, k), index_rk.ravel()
    ids, symbols = names.index.to_numpy(), names.astype(str).to_numpy()
    return pd.DataFrame(
        {
            "gene_id": ids[own],
            "gene_name": symbols[own],
            "rank": np.tile(np.arange(1, k + 1), r),
            "neighbour_id": ids[found],
            "neighbour_name": symbols[found],
            "cosine": cosine_rk.ravel(),
        }
    )
