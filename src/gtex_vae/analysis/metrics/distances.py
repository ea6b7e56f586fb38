"""Distances between samples in an embedding, within and between tissues and donors.

Shapes: ``n`` samples, ``d`` latent dimensions.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

RELATIONS = (
    "same tissue, same donor",
    "same tissue, other donor",
    "other tissue, same donor",
    "other tissue, other donor",
)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST = 4000  # samples


def pairwise_distances(
    z_nd: NDArray[np.floating], tissue: pd.Series, donor: pd.Series, *, seed: int = 0
) -> pd.DataFrame:
    """Summarize the Euclidean distances of all pairs of samples, by shared tissue and shared donor.

    Parameters
    ----------
    z_nd
        Embedding, shape (n, d).
    tissue, donor
        Labels. Samples that lack one of them are skipped.
    seed
        Seed of the random subset of 4,000 samples, if there are more.

    Returns
    -------
    DataFrame
        Indexed by relation: ``pairs``, ``mean``, ``sd``, and the quantiles ``q05``, ``q25``, ``q50``, ``q75``,
        ``q95``. Relations without a pair have no row.

    Examples
    --------
    >>> z_nd = np.array([[0.0], [1.0], [10.0]])
    >>> table = pairwise_distances(z_nd, pd.Series(list("aab")), pd.Series(list("xyx")))
    >>> table["q50"].to_dict()
    {'same tissue, other donor': 1.0, 'other tissue, same donor': 10.0, 'other tissue, other donor': 9.0}
    """
    from scipy.spatial.distance import pdist

    known = np.flatnonzero((tissue.notna().to_numpy()) & (donor.notna().to_numpy()))
    if len(known) > MOST:
        known = np.sort(np.random.default_rng(seed).choice(known, MOST, replace=False))
    columns = ["pairs", "mean", "sd", *(f"q{round(100 * q):02d}" for q in QUANTILES)]
    if len(known) < 2:
        return pd.DataFrame(columns=columns).rename_axis("relation")
    tissues, donors = (pd.factorize(labels.to_numpy()[known])[0] for labels in (tissue, donor))
    distance = pdist(np.asarray(z_nd, dtype=np.float64)[known])
    first, second = np.triu_indices(len(known), 1)
    relation = 2 * (tissues[first] != tissues[second]) + (donors[first] != donors[second])
    rows = {}
    for code, name in enumerate(RELATIONS):
        chosen = distance[relation == code]
        if len(chosen):
            rows[name] = [len(chosen), chosen.mean(), chosen.std(), *np.quantile(chosen, QUANTILES)]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("relation")


def distance_metrics(table: pd.DataFrame) -> dict[str, float]:
    """Compute the ratio of median distances of pairs with nothing in common to pairs of one tissue, and of one donor.

    ``latent/distance_ratio_tissue`` compares samples of different donors, ``latent/distance_ratio_donor`` samples of
    different tissues. The latter is 1 if the embedding contains no information on the donor.
    """
    median = table["q50"].to_dict()
    other = median.get(RELATIONS[3], np.nan)
    return {
        "latent/distance_ratio_tissue": float(other / median.get(RELATIONS[1], np.nan)),
        "latent/distance_ratio_donor": float(other / median.get(RELATIONS[2], np.nan)),
    }
