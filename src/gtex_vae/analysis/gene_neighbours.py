"""Most similar genes of every gene.

Shapes: ``g`` genes, ``d`` latent dimensions, ``k`` neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GENES_AT_A_TIME = 1024


def cosine_neighbours(
    embedding_gd: NDArray[np.floating], k: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Find the ``k`` genes of highest cosine similarity to each gene, best first.

    The similarity of all pairs is never in memory at once: 1,024 genes are compared with all at a time.

    Parameters
    ----------
    embedding_gd
        Gene embedding, shape (g, d); a gene without a direction is similar to none.
    k
        Number of neighbours; fewer where there are fewer other genes.

    Returns
    -------
    index_gk, cosine_gk
        Positions of the neighbours and their similarity, shape (g, k).

    Examples
    --------
    >>> index_gk, cosine_gk = cosine_neighbours(np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 3.0]]), 1)
    >>> index_gk[:, 0].tolist()
    [1, 0, 1]
    """
    embedding_gd = np.asarray(embedding_gd, dtype=np.float32)
    unit_gd = embedding_gd / np.maximum(np.linalg.norm(embedding_gd, axis=1, keepdims=True), 1e-12)
    g = len(unit_gd)
    k = min(k, g - 1)
    index_gk, cosine_gk = np.empty((g, k), dtype=np.intp), np.empty((g, k), dtype=np.float32)
    for start in range(0, g, GENES_AT_A_TIME):
        similarity = unit_gd[start : start + GENES_AT_A_TIME] @ unit_gd.T
        rows = np.arange(len(similarity))
        similarity[rows, start + rows] = -np.inf
        best = np.argpartition(-similarity, k - 1, axis=1)[:, :k] if k else np.empty((len(rows), 0), np.intp)
        values = np.take_along_axis(similarity, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        index_gk[start : start + len(rows)] = np.take_along_axis(best, order, axis=1)
        cosine_gk[start : start + len(rows)] = np.take_along_axis(values, order, axis=1)
    return index_gk, cosine_gk
