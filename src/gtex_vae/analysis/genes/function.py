"""AUROC of gene sets from the similarity of gene embeddings.

Shapes: ``g`` genes, ``d`` embedding dimensions, ``s`` gene sets, ``p`` permutations, ``m`` members of one set,
``l`` genes of one level.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

BLOCK = 256
LEVELS = 20

Members = Mapping[str, NDArray[np.intp]]


def function_table(
    unit_gd: NDArray[np.float32], members: Members, level_g: NDArray[np.floating] | None = None
) -> pd.DataFrame:
    r"""Compute the AUROC of every gene set: similarity of its genes to the set compared with all other genes.

    A gene's score is its mean cosine similarity to the set's members, excluding itself,

    .. math:: s_{ij} = \frac{1}{|S_j \setminus i|} \sum_{m \in S_j \setminus i} \cos(e_i, e_m)

    The AUROC compares the members' scores with those of all other genes; ties count half. The gene-by-gene similarity
    matrix is never computed: scores are products with the set's summed unit embeddings.

    Parameters
    ----------
    unit_gd
        `unit_length` of gene embeddings, shape (g, d): decoder loadings, PCA's ``components_dg.T``, or the genes'
        standardized profiles ``x_ng.T``. A gene whose embedding is zero has similarity 0 to every gene.
    members
        Name of a set to the indices of its genes, as :func:`~gtex_vae.analysis.genes.gene_sets.match` returns.
    level_g
        Mean expression of each gene, shape (g,). If given, a second AUROC compares each member only with genes of its
        own expression level (20 classes of equal size), which removes similarity due to the level alone.

    Returns
    -------
    DataFrame
        Indexed by set: ``genes`` (its size), ``auroc``, and ``matched`` with ``level_g``. The metric
        ``gene/function_auroc`` is the mean of ``auroc``.

    References
    ----------
    Hanley, McNeil (1982), The meaning and use of the area under a ROC curve, Radiology 143.

    Examples
    --------
    >>> embedding_gd = np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [0.1, 3.0]])
    >>> float(function_table(unit_length(embedding_gd), {"A": np.array([0, 1])})["auroc"]["A"])
    1.0
    """
    index = pd.Index(members, name="set")
    table = pd.DataFrame({"genes": [len(genes) for genes in members.values()]}, index=index)
    rows = _scored_sets(unit_gd, list(members.values()), progress=True)
    if level_g is None:
        table["auroc"] = [_auroc(similar_g, similar_g[genes]) for genes, similar_g in rows]
        return table
    class_g = level_classes(level_g)
    alike_cl = _by_class(class_g)
    aurocs = [
        (_auroc(similar_g, similar_g[genes]), _matched_auroc(similar_g, genes, class_g, alike_cl))
        for genes, similar_g in rows
    ]
    table[["auroc", "matched"]] = np.array(aurocs)
    return table


def level_classes(level_g: NDArray[np.floating]) -> NDArray[np.intp]:
    """Assign each gene to one of 20 classes of equal size, by increasing mean expression.

    >>> level_classes(np.arange(40.0))[[0, 1, 2, 39]].tolist()
    [0, 0, 1, 19]
    """
    class_g = np.empty(len(level_g), dtype=np.intp)
    class_g[np.argsort(level_g, kind="stable")] = np.arange(len(level_g)) * LEVELS // len(level_g)
    return class_g


def unit_length(embedding_gd: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scale embeddings to length 1, float32; zeros stay zeros."""
    length_g = np.sqrt(np.einsum("gd,gd->g", embedding_gd, embedding_gd, dtype=np.float64))
    scale_g = np.divide(1, length_g, out=np.zeros_like(length_g), where=length_g > 0)
    unit_gd = np.empty(embedding_gd.shape, dtype=np.float32)
    return np.multiply(embedding_gd, scale_g[:, None].astype(np.float32), out=unit_gd, casting="same_kind")


def function_auroc(
    unit_gd: NDArray[np.float32], members: list[NDArray[np.intp]], *, progress: bool = True
) -> NDArray[np.float64]:
    """Compute the AUROC of each set for embeddings of length 1; see :func:`function_table`.

    Parameters
    ----------
    unit_gd
        Unit-length embeddings, shape (g, d).
    members
        Gene indices of each set: at least two genes, and not all.
    progress
        Show a progress bar.

    Returns
    -------
    ndarray of float64
        Shape (s,).
    """
    rows = _scored_sets(unit_gd, members, progress=progress)
    return np.array([_auroc(similar_g, similar_g[genes]) for genes, similar_g in rows])


def _scored_sets(
    unit_gd: NDArray[np.float32], members: list[NDArray[np.intp]], *, progress: bool
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Yield each set's genes, and the similarity of every gene to the set, excluding itself."""
    from tqdm import tqdm

    g = len(unit_gd)
    own_g = np.einsum("gd,gd->g", unit_gd, unit_gd)
    starts = range(0, len(members), BLOCK)
    hidden = None if progress and len(starts) >= 4 else True
    for start in tqdm(starts, desc="gene function", unit="block", leave=False, disable=hidden):
        block = members[start : start + BLOCK]
        pointers = np.cumsum([0, *map(len, block)])
        indices = np.concatenate(block)
        sums_sd = (
            csr_array((np.ones(len(indices), np.float32), indices, pointers), shape=(len(block), g)) @ unit_gd
        )
        for genes, similar_g in zip(block, sums_sd @ unit_gd.T, strict=True):
            # remove a member's similarity to itself from its mean
            similar_g[genes] = (similar_g[genes] - own_g[genes]) * (len(genes) / (len(genes) - 1))
            yield genes, similar_g


def permutation_null(
    unit_gd: NDArray[np.float32],
    members: list[NDArray[np.intp]],
    *,
    permutations: int = 20,
    level_g: NDArray[np.floating] | None = None,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Compute the AUROC of every set with shuffled gene names.

    Shuffling keeps the sizes and overlaps of the sets. With ``level_g`` names are exchanged only between genes of
    similar expression level, so similarity due to the level alone remains in the null. The null differs from 0.5:
    if genes form few tight clusters, a member, whose own similarity is excluded, scores slightly lower than its
    neighbours outside the set.

    Parameters
    ----------
    unit_gd
        Unit-length embeddings, shape (g, d).
    members
        Gene indices of each set.
    permutations
        Number of shuffles p.
    level_g
        Mean expression of each gene, shape (g,), for shuffles within 20 classes of equal size; None to shuffle freely.
    seed
        Seed of the shuffles.

    Returns
    -------
    ndarray of float64
        Shape (p, s).
    """
    from tqdm import tqdm

    g = len(unit_gd)
    random = np.random.default_rng(seed)
    class_g = np.zeros(g, dtype=np.intp) if level_g is None else level_classes(level_g)
    in_classes = np.argsort(class_g, kind="stable")
    null_ps = np.empty((permutations, len(members)))
    for row in tqdm(range(permutations), desc="shuffled genes", leave=False, disable=None):
        # sorting by (class, random number) shuffles within classes
        name_g = np.empty(g, dtype=np.intp)
        name_g[in_classes] = np.lexsort((random.random(g), class_g))
        null_ps[row] = function_auroc(unit_gd, [name_g[genes] for genes in members], progress=False)
    return null_ps


def _auroc(score_g: NDArray[np.float32], positive: NDArray[np.float32]) -> float:
    """Compute the AUROC of the positives compared with all other scores, from the rank sum with midranks."""
    ordered_g = np.sort(score_g)
    below = np.searchsorted(ordered_g, positive, side="left")
    up_to = np.searchsorted(ordered_g, positive, side="right")
    n_positive, n_negative = len(positive), len(score_g) - len(positive)
    rank_sum = (below + up_to + 1).sum() / 2
    return float((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def _by_class(class_g: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the genes of each class, padded with g, shape (classes, l)."""
    sizes = np.bincount(class_g)
    alike_cl = np.full((len(sizes), sizes.max()), len(class_g))
    for number, size in enumerate(sizes):
        alike_cl[number, :size] = np.flatnonzero(class_g == number)
    return alike_cl


def _matched_auroc(
    score_g: NDArray[np.float32],
    genes: NDArray[np.intp],
    class_g: NDArray[np.intp],
    alike_cl: NDArray[np.intp],
) -> float:
    """Average over members the fraction of non-members of the same class that score less; ties count half."""
    # comparisons with NaN are false, so members and padding count as neither less nor equal
    others_g = np.append(score_g, np.float32(np.nan))
    others_g[genes] = np.nan
    others_ml = others_g[alike_cl[class_g[genes]]]
    own_m1 = score_g[genes][:, None]
    less_m = (others_ml < own_m1).sum(1) + 0.5 * (others_ml == own_m1).sum(1)
    others_m = np.isfinite(others_ml).sum(1)
    compared_m = others_m > 0
    return float((less_m[compared_m] / others_m[compared_m]).mean()) if compared_m.any() else float("nan")
