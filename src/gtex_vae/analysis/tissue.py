"""How well the embedding tells tissues apart: classifiers from training to held-out donors, and clusters.

Shapes: n samples, d latent dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

NEIGHBOURS = 15
SILHOUETTE_SAMPLES = 5000

Labels = Sequence[object] | NDArray | pd.Series


def tissue_metrics(
    z_train_nd: NDArray[np.floating],
    z_test_nd: NDArray[np.floating],
    train_labels: Labels,
    test_labels: Labels,
    *,
    seed: int = 0,
) -> dict[str, float]:
    """All ``tissue/`` and ``cluster/`` metrics of an embedding; samples without a label are left out.

    Parameters
    ----------
    z_train_nd, z_test_nd
        Embeddings of the training and held-out samples, shapes (n, d).
    train_labels, test_labels
        Their tissues; missing values allowed.
    seed
        Seed of k-means.

    Returns
    -------
    dict
        ``tissue/knn_accuracy``, ``tissue/logreg_accuracy`` and the keys of :func:`cluster_metrics`. Empty
        when no training or no held-out sample has a label.
    """
    z_train_nd, train_labels = _labelled(z_train_nd, train_labels)
    z_test_nd, test_labels = _labelled(z_test_nd, test_labels)
    if not len(train_labels) or not len(test_labels):
        return {}
    return {
        "tissue/knn_accuracy": knn_accuracy(z_train_nd, z_test_nd, train_labels, test_labels),
        "tissue/logreg_accuracy": logreg_accuracy(z_train_nd, z_test_nd, train_labels, test_labels),
        **cluster_metrics(z_test_nd, test_labels, seed=seed),
    }


def knn_accuracy(
    z_train_nd: NDArray[np.floating],
    z_test_nd: NDArray[np.floating],
    train_labels: Labels,
    test_labels: Labels,
    neighbours: int = NEIGHBOURS,
) -> float:
    """Share of held-out samples whose label wins the vote of their nearest training samples.

    Euclidean distance, in the embedding as it is, each neighbour one vote.

    Parameters
    ----------
    z_train_nd, z_test_nd
        Embeddings, shapes (n, d).
    train_labels, test_labels
        Their labels. A label that no training sample has counts as an error.
    neighbours
        Number of voters, fewer where there are fewer training samples.

    Returns
    -------
    float
        Between 0 and 1.

    Examples
    --------
    >>> knn_accuracy(np.array([[0.0], [1.0], [9.0]]), np.array([[8.0]]), list("aab"), ["b"], neighbours=1)
    1.0
    """
    from sklearn.neighbors import KNeighborsClassifier

    voters = min(neighbours, len(z_train_nd))
    classifier = KNeighborsClassifier(n_neighbors=voters, algorithm="brute")
    classifier.fit(z_train_nd, _strings(train_labels))
    return float((classifier.predict(z_test_nd) == _strings(test_labels)).mean())


def logreg_accuracy(
    z_train_nd: NDArray[np.floating],
    z_test_nd: NDArray[np.floating],
    train_labels: Labels,
    test_labels: Labels,
    *,
    max_iter: int = 100,
) -> float:
    """Held-out accuracy of a multinomial logistic regression on standardized embeddings.

    L2 penalty with C = 1, L-BFGS, capped since accuracy settles long before the coefficients do.

    Parameters
    ----------
    z_train_nd, z_test_nd
        Embeddings, shapes (n, d); standardized here with the training mean and standard deviation.
    train_labels, test_labels
        Their labels. A label that no training sample has counts as an error.
    max_iter
        Cap of L-BFGS iterations.

    Returns
    -------
    float
        Between 0 and 1; with a single training label, the share of that label.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    train, test = _strings(train_labels), _strings(test_labels)
    if len(np.unique(train)) < 2:
        return float((test == train[0]).mean())
    mean_d = z_train_nd.mean(axis=0, dtype=np.float64)
    scale_d = z_train_nd.std(axis=0, dtype=np.float64)
    # a constant dimension varies by rounding alone, which unit variance would turn into noise
    scale_d[scale_d <= 1e-6 * np.abs(mean_d)] = np.inf
    classifier = LogisticRegression(max_iter=max_iter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit((z_train_nd - mean_d) / scale_d, train)
    return float((classifier.predict((z_test_nd - mean_d) / scale_d) == test).mean())


def cluster_metrics(z_nd: NDArray[np.floating], labels: Labels, *, seed: int = 0) -> dict[str, float]:
    """Agreement of an embedding's geometry, and of its k-means clusters, with labels.

    Parameters
    ----------
    z_nd
        Embedding, shape (n, d), used as it is.
    labels
        One label per sample.
    seed
        Seed of k-means (k = number of labels, best of 10 starts) and of the silhouette's subsample, which is
        drawn above 5,000 samples since its cost is quadratic.

    Returns
    -------
    dict
        ``cluster/silhouette_tissue``, ``cluster/calinski_harabasz_tissue``, ``cluster/ari``, ``cluster/nmi``;
        empty unless there are at least two labels and fewer labels than samples.
    """
    from sklearn import metrics
    from sklearn.cluster import KMeans

    names, truth = np.unique(_strings(labels), return_inverse=True)
    if not 2 <= len(names) < len(truth):
        return {}
    z_nd = np.asarray(z_nd, dtype=np.float32)
    some = np.random.default_rng(seed).permutation(len(truth))[:SILHOUETTE_SAMPLES]
    clusters = KMeans(n_clusters=len(names), n_init=10, random_state=seed).fit_predict(z_nd)
    return {
        "cluster/silhouette_tissue": float(metrics.silhouette_score(z_nd[some], truth[some])),
        "cluster/calinski_harabasz_tissue": float(metrics.calinski_harabasz_score(z_nd, truth)),
        "cluster/ari": float(metrics.adjusted_rand_score(truth, clusters)),
        "cluster/nmi": float(metrics.normalized_mutual_info_score(truth, clusters)),
    }


def _strings(labels: Labels) -> NDArray[np.str_]:
    """Labels as an array of text, whatever held them."""
    return np.asarray(labels, dtype=object).astype(str)


def _labelled(z_nd: NDArray[np.floating], labels: Labels) -> tuple[NDArray[np.floating], NDArray[np.str_]]:
    """Rows that have a label, and their labels."""
    values = np.asarray(labels, dtype=object)
    present = ~pd.isna(values)
    return z_nd[present], values[present].astype(str)
