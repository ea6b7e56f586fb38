"""Quality of k-means clusters of an embedding for a range of k, compared with its tissues.

Shapes: ``n`` samples, ``d`` latent dimensions, ``k`` clusters.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.metrics.tissue import labelled

MOST_CLUSTERS = 64
FEWEST_TRIED = 10
SILHOUETTE_SAMPLES = 2000
COLUMNS = ["labels", "k", "silhouette", "calinski_harabasz", "inertia", "ari", "nmi"]


def clustering(z_nd: NDArray[np.floating], tissue: pd.Series, *, seed: int = 0) -> pd.DataFrame:
    """Score the tissues, and k-means for every k from 2 to a few more than there are tissues.

    Parameters
    ----------
    z_nd
        Embedding, shape (n, d), not scaled.
    tissue
        Labels. Samples without one are left out of the scores of tissues.
    seed
        Seed of k-means (best of 3 starts), and of the 2,000 samples used for the silhouette.

    Returns
    -------
    DataFrame
        ``labels`` (``tissue`` or ``kmeans``), ``k``, ``silhouette``, ``calinski_harabasz``, ``inertia`` (k-means), and
        ``ari`` and ``nmi`` of the clusters with the tissues.
    """
    from sklearn import metrics
    from sklearn.cluster import KMeans
    from tqdm import tqdm

    z_nd = np.asarray(z_nd, dtype=np.float32)
    known = labelled(tissue)
    truth = tissue.to_numpy(dtype=object)[known].astype(str)
    tissues = len(set(truth))
    some = np.random.default_rng(seed).permutation(len(z_nd))[:SILHOUETTE_SAMPLES]
    rows = []
    if 2 <= tissues < len(truth):
        within = np.random.default_rng(seed).permutation(len(truth))[:SILHOUETTE_SAMPLES]
        if 2 <= len(set(truth[within])) < len(within):
            silhouette = metrics.silhouette_score(z_nd[known][within], truth[within])
            spread = metrics.calinski_harabasz_score(z_nd[known], truth)
            rows.append(["tissue", tissues, silhouette, spread, np.nan, 1.0, 1.0])
    most = min(max(FEWEST_TRIED, tissues + 5), MOST_CLUSTERS, len(np.unique(z_nd, axis=0)) - 1, len(some) - 1)
    for k in tqdm(range(2, most + 1), desc="clustering", unit="k", leave=False, disable=None):
        fitted = KMeans(n_clusters=k, n_init=3, random_state=seed).fit(z_nd)
        found = fitted.labels_
        proper = len(set(found[some])) > 1
        silhouette = metrics.silhouette_score(z_nd[some], found[some]) if proper else np.nan
        agreement = (
            (
                metrics.adjusted_rand_score(truth, found[known]),
                metrics.normalized_mutual_info_score(truth, found[known]),
            )
            if tissues > 1
            else (np.nan, np.nan)
        )
        spread = metrics.calinski_harabasz_score(z_nd, found)
        rows.append(["kmeans", k, silhouette, spread, fitted.inertia_, *agreement])
    return pd.DataFrame(rows, columns=COLUMNS).set_index(["labels", "k"])
