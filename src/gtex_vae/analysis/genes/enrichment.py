"""Gene sets that change along latent dimensions, with sign and false discovery rate.

Shapes: ``g`` genes, ``d`` latent dimensions, ``s`` gene sets, ``c`` classes of expression level.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from gtex_vae.analysis.genes.function import Members, level_classes

KEPT = 10  # sets per collection, dimension and sign in the table; q values use all sets


def enrichment(
    change_gd: NDArray[np.floating], members: Members, level_g: NDArray[np.floating]
) -> NDArray[np.float64]:
    r"""Score the change of each set's genes along each dimension, relative to random sets of equal expression levels.

    Within each of 20 classes of expression level, a gene's change is replaced by the normal score of its rank. Under the
    null a set is drawn without replacement with as many genes of each class. The sum of scores then has mean 0
    and a known variance, so no permutations are needed:

    .. math:: z_{sd} = \frac{\sum_{i \in s} a_{id}}{\sqrt{\sum_c m_{sc}\, \sigma_{cd}^2\,
        \frac{N_c - m_{sc}}{N_c - 1}}}

    with the scores a, :math:`m_{sc}` genes of the set among the :math:`N_c` of class c, and the variance
    :math:`\sigma_{cd}^2` of the scores within the class. Sums of ten or more normal scores are close to standard normal.

    Parameters
    ----------
    change_gd
        Signed change of each gene along each dimension (loadings), shape (g, d).
    members
        Name of a set to the indices of its genes.
    level_g
        Mean expression of each gene, shape (g,).

    Returns
    -------
    ndarray of float64
        z, shape (s, d): positive if the set's genes increase with the dimension. NaN if no gene changes along it.

    References
    ----------
    Barry, Nobel and Wright (2005), Significance analysis of functional categories in gene expression studies: gene
    permutation. It ignores correlation between genes (Goeman and Buehlmann 2007). Randomized block variance: Cochran
    (1977), Sampling Techniques, section 5.9.

    Examples
    --------
    >>> change_gd = np.arange(100.0)[:, None]
    >>> z_sd = enrichment(change_gd, {"late": np.arange(90, 100), "early": np.arange(10)}, np.random.default_rng(0).random(100))
    >>> (z_sd[:, 0] > 0).tolist()
    [True, False]
    """
    class_g = level_classes(level_g)
    score_gd, variance_cd = _normal_scores(np.asarray(change_gd, dtype=np.float64), class_g)
    genes = list(members.values())
    pointers = np.cumsum([0, *map(len, genes)])
    indices = np.concatenate(genes)
    of_set_sg = csr_array((np.ones(len(indices)), indices, pointers), shape=(len(genes), len(class_g)))
    size_c = np.bincount(class_g)
    in_class_gc = csr_array((np.ones(len(class_g)), (np.arange(len(class_g)), class_g)))
    drawn_sc = (of_set_sg @ in_class_gc).toarray()
    left_sc = drawn_sc * (size_c - drawn_sc) / np.maximum(size_c - 1, 1)
    sum_sd, variance_sd = of_set_sg @ score_gd, left_sc @ variance_cd
    z_sd = np.full(sum_sd.shape, np.nan)
    return np.divide(sum_sd, np.sqrt(variance_sd), out=z_sd, where=variance_sd > 1e-9)


def enrichment_table(
    change_gd: NDArray[np.floating],
    collections: Mapping[str, Members],
    level_g: NDArray[np.floating],
    dimensions: NDArray[np.intp],
    *,
    kept: int = KEPT,
) -> pd.DataFrame:
    """List the sets that increase and decrease most along each dimension, for every collection.

    Parameters
    ----------
    change_gd
        See `enrichment`; here standardized expression per standard deviation of the dimension.
    collections
        Name of a collection to its sets.
    level_g
        Mean expression of each gene.
    dimensions
        Latent dimension of each column of ``change_gd``.
    kept
        Number of sets to list per collection, dimension and sign.

    Returns
    -------
    DataFrame
        ``collection``, ``dimension``, ``sign`` (of the change of the set's genes as the dimension increases), ``set``,
        ``genes``, ``score`` (z of `enrichment`), ``change`` (mean over the set's genes), ``p`` (two-sided) and ``q``
        (Benjamini and Hochberg, over all sets and dimensions of the collection, listed or not).

    References
    ----------
    Benjamini and Hochberg (1995), Controlling the False Discovery Rate, J. R. Stat. Soc. B 57.
    """
    from scipy.stats import false_discovery_control, norm

    parts = []
    for collection, members in collections.items():
        names, genes = np.array(list(members), dtype=object), list(members.values())
        score_sd = enrichment(change_gd, members, level_g)
        tested_d = np.isfinite(score_sd).all(axis=0)
        p_sd = np.ones(score_sd.shape)
        p_sd[:, tested_d] = 2 * norm.sf(np.abs(score_sd[:, tested_d]))
        q_sd = np.ones(score_sd.shape)
        if tested_d.any():
            q_sd[:, tested_d] = false_discovery_control(p_sd[:, tested_d].ravel()).reshape(len(names), -1)
        for d in np.flatnonzero(tested_d):
            for sign in (1, -1):
                order = np.argsort(-sign * score_sd[:, d], kind="stable")[:kept]
                rows = order[sign * score_sd[order, d] > 0]
                parts.append(
                    pd.DataFrame(
                        {
                            "collection": collection,
                            "dimension": f"z_{dimensions[d]}",
                            "sign": "+" if sign > 0 else "-",
                            "set": names[rows],
                            "genes": [len(genes[row]) for row in rows],
                            "score": score_sd[rows, d],
                            "change": [float(change_gd[genes[row], d].mean()) for row in rows],
                            "p": p_sd[rows, d],
                            "q": q_sd[rows, d],
                        }
                    )
                )
    columns = ["collection", "dimension", "sign", "set", "genes", "score", "change", "p", "q"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _normal_scores(
    change_gd: NDArray[np.float64], class_g: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute normal scores of the ranks within each class, with mean 0, and their variances, shape (c, d)."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    score_gd = np.zeros_like(change_gd)
    variances = []
    for number in range(class_g.max() + 1):
        genes = np.flatnonzero(class_g == number)
        if len(genes):
            # if no gene changes along a dimension, all genes tie and score 0
            scores = ndtri((rankdata(change_gd[genes], axis=0) - 0.5) / len(genes))
            score_gd[genes] = scores - scores.mean(axis=0)
        variances.append(score_gd[genes].var(axis=0) if len(genes) else np.zeros(change_gd.shape[1]))
    return score_gd, np.array(variances)
