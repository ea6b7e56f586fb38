"""Mean, variance and prevalence of each gene, and the selection of the most variable genes.

Shape suffixes: n samples, g genes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gtex_vae.data.genes.columns import Matrix
from gtex_vae.data.preprocess.sample_stats import blocks
from gtex_vae.data.units import log_offset

BINS = 20


@dataclass(frozen=True)
class GeneStats:
    """Statistics of each gene over the samples.

    Parameters
    ----------
    mean_g, var_g
        Mean and population variance over the samples, in the unit of the matrix, float64.
    prevalence_g
        Share of the samples in which the gene is expressed.
    """

    mean_g: npt.NDArray[np.float64]
    var_g: npt.NDArray[np.float64]
    prevalence_g: npt.NDArray[np.float64]


def gene_stats(
    x_ng: Matrix, unit: str, *, keep_n: npt.NDArray[np.bool_] | None = None, min_expression: float = 0.1
) -> GeneStats:
    r"""Compute the statistics of each gene in one pass, merging blocks of samples.

    Parameters
    ----------
    x_ng
        Samples x genes, dense, CSR or on disk.
    unit
        Unit of ``x_ng``.
    keep_n
        Samples to use; all if None.
    min_expression
        A gene is expressed above this value on the linear scale (TPM, RPKM or counts).

    References
    ----------
    Chan, Golub, LeVeque 1983, eq. 2.1: combining the moments of two samples.
    """
    offset = log_offset(unit)
    threshold = np.float32(min_expression if offset is None else np.log2(min_expression + offset))
    n_genes = x_ng.shape[1]
    count = 0
    mean_g, squares_g, expressed_g = (np.zeros(n_genes) for _ in range(3))
    for part, block in blocks(x_ng):
        rows = block if keep_n is None else block[keep_n[part]]
        if not len(rows):
            continue
        expressed_g += (rows > threshold).sum(axis=0)
        here_g = rows.mean(axis=0, dtype=np.float64)
        away_g = here_g - mean_g
        total = count + len(rows)
        squares_g += rows.var(axis=0, dtype=np.float64) * len(rows) + away_g**2 * (count * len(rows) / total)
        mean_g += away_g * (len(rows) / total)
        count = total
    count = max(count, 1)
    return GeneStats(mean_g, squares_g / count, expressed_g / count)


def top_variable(stats: GeneStats, n_genes: int, *, rank_by: str = "variance") -> npt.NDArray[np.bool_]:
    r"""Mark the most variable genes.

    Parameters
    ----------
    stats
        Over all samples: the selection uses no labels, but includes the samples of the test split.
    n_genes
        Number of genes to mark.
    rank_by
        ``"variance"``: the variance of the log expression. ``"hvg"``: the excess of the variance over that of genes
        with a similar mean, :math:`(v - \mathrm{median}_b) / \mathrm{MAD}_b` in 20 equally filled bins
        of the mean, so that genes compete with others of similar expression.

    Returns
    -------
    ndarray
        Boolean, of shape (g,); ties go to the earlier gene.
    """
    score_g = stats.var_g
    if rank_by == "hvg":
        score_g = np.empty_like(stats.var_g)
        for genes in np.array_split(np.argsort(stats.mean_g, kind="stable"), BINS):
            if not len(genes):
                continue
            var = stats.var_g[genes]
            median = np.median(var)
            score_g[genes] = (var - median) / (np.median(np.abs(var - median)) + 1e-12)
        score_g[stats.var_g <= 0] = -np.inf
    elif rank_by != "variance":
        raise ValueError(f"rank_by={rank_by!r} must be 'variance' or 'hvg'")
    marked = np.zeros(len(score_g), dtype=bool)
    marked[np.argsort(-score_g, kind="stable")[:n_genes]] = True
    return marked
