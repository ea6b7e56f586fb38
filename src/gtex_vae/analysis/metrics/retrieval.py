"""Retrieval of each query's partner among all candidates.

Shapes: n pairs, d dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KEYS = (
    "top1",
    "top5",
    "mrr",
    "median_rank",
    "foscttm",
    "chance_top1",
    "chance_top5",
    "chance_mrr",
    "candidates",
)
AVERAGED = ("top1", "top5", "mrr", "foscttm")  # means over queries

Floats = NDArray[np.floating]


def cosine_similarity(u_nd: Floats, v_nd: Floats) -> NDArray[np.float64]:
    """Compute the cosine of every pair of rows, shape (n, n); 0 if a row is 0."""

    def unit(x_nd: Floats) -> NDArray[np.float64]:
        length_n = np.linalg.norm(x_nd, axis=1, keepdims=True).astype(np.float64)
        return np.divide(x_nd, length_n, out=np.zeros(x_nd.shape), where=length_n > 0)

    return unit(u_nd) @ unit(v_nd).T


def partner_ranks(
    similarity_nn: Floats, candidate_nn: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Rank each query's own partner, 1 for the most similar; ties get their mean rank.

    Mean ranks make a constant similarity score as chance.

    Parameters
    ----------
    similarity_nn
        Similarity of query i and candidate j. The partner of i is candidate i.
    candidate_nn
        False if j is not a candidate for i. Partners always are. ``None``: all are.

    Returns
    -------
    ndarray
        Shape (n,), from 1 to the number of candidates.

    Examples
    --------
    >>> partner_ranks(np.array([[0.9, 0.1], [0.5, 0.5]])).tolist()
    [1.0, 1.5]
    """
    own_n1 = np.diag(similarity_nn)[:, None]
    better_nn, equal_nn = similarity_nn > own_n1, similarity_nn == own_n1
    if candidate_nn is not None:
        better_nn, equal_nn = better_nn & candidate_nn, equal_nn & candidate_nn
    equal_nn = equal_nn & ~np.eye(len(similarity_nn), dtype=bool)
    return 1.0 + better_nn.sum(axis=1) + 0.5 * equal_nn.sum(axis=1)


def retrieval_metrics(
    similarity_nn: Floats, candidate_nn: NDArray[np.bool_] | None = None
) -> dict[str, float]:
    r"""Compute retrieval metrics, averaged over both directions.

    With r the rank among m candidates: top-k is the share of r <= k, MRR the mean of 1/r, FOSCTTM (fraction of samples
    closer than the true match) the mean of (r - 1) / (m - 1).

    Parameters
    ----------
    similarity_nn, candidate_nn
        As for `partner_ranks`. Queries without another candidate are skipped.

    Returns
    -------
    dict
        ``top1``, ``top5``, ``mrr``, ``median_rank``, ``foscttm``; values expected by chance ``chance_top1``,
        ``chance_top5``, ``chance_mrr``; and ``candidates``, the mean of m. NaN if all queries are skipped.

    References
    ----------
    Liu et al. (2019), Jointly Embedding Multiple Single-Cell Omics Measurements, WABI, for FOSCTTM.

    Examples
    --------
    >>> figures = retrieval_metrics(np.eye(4))
    >>> figures["top1"], figures["foscttm"], figures["chance_top1"]
    (1.0, 0.0, 0.25)
    """
    by_query = [_queries(similarity_nn, candidate_nn, turned) for turned in (False, True)]
    figures = {}
    for key in KEYS:
        middle = np.nanmedian if key == "median_rank" else np.nanmean
        counted = [queries[key] for queries in by_query]
        defined = all(np.isfinite(values_n).any() for values_n in counted)
        figures[key] = float(np.mean([middle(values_n) for values_n in counted])) if defined else float("nan")
    return figures


def by_pair(similarity_nn: Floats, candidate_nn: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Compute the contribution of every pair to `AVERAGED`, per direction, shape (n, 2, 4); NaN for skipped queries.

    A metric is the mean over pairs, then over directions, so that pairs can be resampled.

    Parameters
    ----------
    similarity_nn, candidate_nn
        As for `retrieval_metrics`.
    """
    by_query = [_queries(similarity_nn, candidate_nn, turned) for turned in (False, True)]
    return np.array([[queries[key] for key in AVERAGED] for queries in by_query]).transpose(2, 0, 1)


def _queries(
    similarity_nn: Floats, candidate_nn: NDArray[np.bool_] | None, turned: bool
) -> dict[str, NDArray[np.float64]]:
    """Compute the contribution of each row as a query, or of each column if ``turned``; NaN without another candidate."""
    n = len(similarity_nn)
    takes_part_nn = np.ones((n, n), dtype=bool)
    if candidate_nn is not None:
        takes_part_nn = candidate_nn | np.eye(n, dtype=bool)
    if turned:
        similarity_nn, takes_part_nn = similarity_nn.T, takes_part_nn.T
    m_n = takes_part_nn.sum(axis=1)
    rank_n = partner_ranks(similarity_nn, takes_part_nn)
    harmonic_m = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, m_n.max(initial=0) + 1))])
    figures = (
        rank_n <= 1,
        rank_n <= 5,
        1.0 / rank_n,
        rank_n,
        (rank_n - 1) / np.maximum(m_n - 1, 1),
        1.0 / m_n,
        np.minimum(5.0 / m_n, 1.0),
        harmonic_m[m_n] / m_n,
        m_n,
    )
    return {key: np.where(m_n > 1, value, np.nan) for key, value in zip(KEYS, figures, strict=True)}


def composition_matched(proportion_nc: Floats, neighbours: int) -> NDArray[np.bool_]:
    """Select for each donor the candidates with the most similar composition, including itself.

    Retrieval among donors of equal composition cannot rely on composition.

    Parameters
    ----------
    proportion_nc
        Shares of the cell types, shape (n, c).
    neighbours
        Number of other donors per donor, the nearest by Hellinger distance.

    Returns
    -------
    ndarray of bool
        Shape (n, n), for `retrieval_metrics`.

    Examples
    --------
    >>> composition_matched(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), 1).sum(axis=1).tolist()
    [2, 2, 2]
    """
    root_nc = np.sqrt(proportion_nc)
    affinity_nn = root_nc @ root_nc.T
    np.fill_diagonal(affinity_nn, np.inf)
    kept = min(neighbours + 1, len(affinity_nn))
    nearest = np.argsort(-affinity_nn, axis=1, kind="stable")[:, :kept]
    matched_nn = np.zeros(affinity_nn.shape, dtype=bool)
    np.put_along_axis(matched_nn, nearest, True, axis=1)
    return matched_nn
