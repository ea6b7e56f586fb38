"""Tables of reconstruction quality per gene and per tissue.

Shapes: n samples, g genes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.metrics.reconstruction import GeneSums

GENES_AT_A_TIME = 512
FEWEST_SAMPLES = 3


def gene_spearman(x_ng: NDArray[np.floating], x_hat_ng: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the Spearman correlation per gene over samples, with mean ranks for ties.

    Parameters
    ----------
    x_ng, x_hat_ng
        Truth and reconstruction, shape (n, g).

    Returns
    -------
    ndarray of float64
        Shape (g,); NaN if the truth is constant, 0 if the reconstruction is.

    Examples
    --------
    >>> x_ng = np.array([[1.0], [2.0], [3.0]])
    >>> gene_spearman(x_ng, x_ng**3).tolist()
    [1.0]
    """
    from scipy.stats import rankdata

    n, g = x_ng.shape
    parts = []
    for start in range(0, g, GENES_AT_A_TIME):
        genes = slice(start, start + GENES_AT_A_TIME)
        # genes as rows: ranking along contiguous memory is several times faster
        ranks = (rankdata(np.ascontiguousarray(array[:, genes].T), axis=1).T for array in (x_ng, x_hat_ng))
        centred = (rank_ng - (n + 1) / 2 for rank_ng in ranks)
        parts.append(GeneSums.of(*centred).gene_pearson())
    return np.concatenate(parts)


def gene_table(
    x_ng: NDArray[np.floating],
    x_hat_ng: NDArray[np.floating],
    genes: pd.Index,
    names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Score the reconstruction of each gene over the held-out samples.

    Parameters
    ----------
    x_ng, x_hat_ng
        Truth and reconstruction, standardized, shape (n, g).
    genes
        Gene ids, the index of the table.
    names
        Gene names, the first column if given.

    Returns
    -------
    DataFrame
        ``mse``, ``r2`` (against the gene's own mean), ``pearson``, ``spearman``; the last three are missing if
        the gene is constant.
    """
    sums = GeneSums.of(x_ng, x_hat_ng)
    table = pd.DataFrame(
        {
            "mse": sums.squared_g / sums.n,
            "r2": sums.gene_r2(),
            "pearson": sums.gene_pearson(),
            "spearman": gene_spearman(x_ng, x_hat_ng),
        },
        index=genes,
    )
    if names is not None:
        table.insert(0, "gene_name", list(names))
    return table


def tissue_table(
    x_ng: NDArray[np.floating],
    x_hat_ng: NDArray[np.floating],
    tissues: Sequence[object] | NDArray | pd.Series,
) -> pd.DataFrame:
    """Score the reconstruction of the samples of each tissue, over all entries and per gene within the tissue.

    Parameters
    ----------
    x_ng, x_hat_ng
        Truth and reconstruction, standardized, shape (n, g).
    tissues
        Tissue of each sample. Samples without a tissue are skipped.

    Returns
    -------
    DataFrame
        Indexed by tissue: ``samples``; ``mse``; ``r2`` over all entries of the tissue; and the medians over genes
        of ``gene_r2``, ``gene_pearson`` and ``gene_spearman``, computed within the tissue, so that differences between
        tissues do not contribute. The medians are missing below 3 samples.
    """
    labels = np.asarray(tissues, dtype=object)
    rows = {}
    for tissue in sorted({label for label in labels if not pd.isna(label)}, key=str):
        chosen = labels == tissue
        truth, reconstructed = x_ng[chosen], x_hat_ng[chosen]
        sums = GeneSums.of(truth, reconstructed)
        metrics = sums.metrics()
        row = {
            "samples": sums.n,
            "mse": metrics["reconstruction/mse"],
            "r2": metrics["reconstruction/r2"],
        }
        if sums.n >= FEWEST_SAMPLES:
            row["gene_r2_median"] = metrics["reconstruction/gene_r2_median"]
            row["gene_pearson_median"] = metrics["reconstruction/gene_pearson_median"]
            row["gene_spearman_median"] = float(np.nanmedian(gene_spearman(truth, reconstructed)))
        rows[tissue] = row
    columns = ["samples", "mse", "r2", "gene_r2_median", "gene_pearson_median", "gene_spearman_median"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("tissue")
