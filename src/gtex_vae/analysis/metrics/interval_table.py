"""Table of intervals over donors: the model's metrics, and its paired differences from each baseline.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.metrics.bootstrap import gene_interval, interval, metric_names

OVER_GENES = ("reconstruction/gene_r2_median", "reconstruction/gene_pearson_median")


def interval_table(
    samples: Mapping[str, pd.DataFrame],
    donors: pd.Series,
    seed: int,
    *,
    of_genes: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]] | None = None,
) -> pd.DataFrame:
    """Compute bootstrap 95 % intervals over donors.

    Parameters
    ----------
    samples
        Prefix of each method, ``""`` for the model, to its table of `gtex_vae.analysis.evaluation.score.Scores`.
    donors
        Donor of each held-out sample.
    seed
        Seed of the resamples.
    of_genes
        Held-out samples and their reconstructions by the model and by PCA, each (n, g), for medians over genes. If None,
        these rows are left out.

    Returns
    -------
    DataFrame
        ``value``, ``low`` and ``high``, indexed by ``metric`` and ``minus``. ``minus`` is empty for the model's own value, and
        otherwise the baseline that is subtracted.
    """
    rows: list[tuple[str, str, float, float, float]] = []
    for name in metric_names(samples[""]):
        rows.append((name, "", *interval(name, samples[""], donors, seed=seed)))
        for prefix, table in samples.items():
            if prefix and name in metric_names(table):
                difference = interval(name, samples[""], donors, against=table, seed=seed)
                rows.append((name, prefix.strip("/"), *difference))
    if of_genes is not None:
        x_ng, x_hat_ng, by_pca_ng = of_genes
        for name in OVER_GENES:
            rows.append((name, "", *gene_interval(name, x_ng, x_hat_ng, donors, seed=seed)))
            paired = gene_interval(name, x_ng, x_hat_ng, donors, against_ng=by_pca_ng, seed=seed)
            rows.append((name, "baseline/pca", *paired))
    return pd.DataFrame(rows, columns=["metric", "minus", "value", "low", "high"]).set_index(
        ["metric", "minus"]
    )
