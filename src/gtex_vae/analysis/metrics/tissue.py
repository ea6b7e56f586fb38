"""Separation of tissues in an embedding: classifiers from training to held-out donors, and clusters.

Shapes: n samples, d latent dimensions.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
from numpy.typing import NDArray

NEIGHBOURS = 15
SILHOUETTE_SAMPLES = 5000
BLOCK = 256  # dimensions

Labels = Sequence[object] | NDArray | pd.Series


def knn_predict(
    z_train_nd: NDArray[np.floating],
    z_test_nd: NDArray[np.floating],
    train_labels: Labels,
    neighbours: int = NEIGHBOURS,
) -> NDArray[np.str_]:
    """Predict the label of each held-out sample by the vote of its nearest training samples.

    Distances are Euclidean in the embedding, which is not scaled. All votes have equal weight.

    Parameters
    ----------
    z_train_nd, z_test_nd
        Embeddings, shapes (n, d).
    train_labels
        Labels of the training samples, none missing.
    neighbours
        Number of neighbours; fewer if there are fewer training samples.

    Returns
    -------
    ndarray of str
        Predicted labels, shape (n,).

    Examples
    --------
    >>> str(knn_predict(np.array([[0.0], [1.0], [9.0]]), np.array([[8.0]]), list("aab"), neighbours=1)[0])
    'b'
    """
    from sklearn.neighbors import KNeighborsClassifier

    voters = min(neighbours, len(z_train_nd))
    classifier = KNeighborsClassifier(n_neighbors=voters, algorithm="brute")
    with _expected_warnings():
        return classifier.fit(z_train_nd, _strings(train_labels)).predict(z_test_nd)


def logreg_predict(
    z_train_nd: NDArray[np.floating],
    z_test_nd: NDArray[np.floating],
    train_labels: Labels,
    *,
    c: float = 1.0,
    max_iter: int = 100,
) -> NDArray[np.str_]:
    """Predict the label of each held-out sample by multinomial logistic regression on standardized embeddings.

    The iterations of L-BFGS are limited, because accuracy converges long before the coefficients do.

    Parameters
    ----------
    z_train_nd, z_test_nd
        Embeddings, shapes (n, d); standardized here with the training mean and standard deviation.
    train_labels
        Labels of the training samples, none missing.
    c
        Inverse strength of the L2 penalty.
    max_iter
        Maximum number of L-BFGS iterations.

    Returns
    -------
    ndarray of str
        Predicted labels, shape (n,).
    """
    from sklearn.linear_model import LogisticRegression

    train = _strings(train_labels)
    if len(np.unique(train)) < 2:
        return np.repeat(train[:1], len(z_test_nd))
    mean_d = z_train_nd.mean(axis=0, dtype=np.float64)
    # numpy's std over all dimensions at once would copy the whole matrix to float64
    blocks = [slice(start, start + BLOCK) for start in range(0, len(mean_d), BLOCK)]
    scale_d = np.concatenate([z_train_nd[:, block].std(axis=0, dtype=np.float64) for block in blocks])
    # dividing a constant dimension by its rounding errors would turn them into noise
    scale_d[scale_d <= 1e-6 * np.abs(mean_d)] = np.inf
    mean_d, scale_d = mean_d.astype(z_train_nd.dtype), scale_d.astype(z_train_nd.dtype)
    standard_nd = z_train_nd - mean_d
    standard_nd /= scale_d
    classifier = LogisticRegression(C=c, max_iter=max_iter)
    with _expected_warnings():
        classifier.fit(standard_nd, train)
    return classifier.predict((z_test_nd - mean_d) / scale_d)


def expression_predict(
    x_train_ng: NDArray[np.floating], x_test_ng: NDArray[np.floating], train_labels: Labels
) -> NDArray[np.str_]:
    """Label of each held-out sample by logistic regression on all genes: what an embedding could lose.

    The penalty (C = 0.01) suits thousands of correlated, standardized genes better than the usual 1.

    Parameters
    ----------
    x_train_ng, x_test_ng
        Standardized expression, shapes (n, g).
    train_labels
        Labels of the training samples, none missing.

    Returns
    -------
    ndarray of str
        Predicted labels, shape (n,).
    """
    return logreg_predict(x_train_ng, x_test_ng, train_labels, c=0.01, max_iter=50)


def accuracy(predicted: Labels, labels: Labels) -> float:
    """Compute the share of correct predictions, ignoring missing labels; NaN if all are missing.

    >>> accuracy(["a", "b", "b"], ["a", "a", None])
    0.5
    """
    present = labelled(labels)
    right = (_strings(predicted) == _strings(labels))[present]
    return float(right.mean()) if len(right) else float("nan")


def cluster_metrics(z_nd: NDArray[np.floating], labels: Labels, *, seed: int = 0) -> dict[str, float]:
    """Compute the agreement of an embedding, and of its k-means clusters, with labels.

    Parameters
    ----------
    z_nd
        Embedding, shape (n, d), not scaled.
    labels
        One label per sample.
    seed
        Seed of k-means (k = number of labels, best of 10 starts), and of the 5,000 samples used for the silhouette, whose
        cost is quadratic.

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


def several_classes(labels: Labels) -> bool:
    """Return True if there are at least two different labels; with one, every prediction would be correct.

    >>> several_classes(["a", "b", None]), several_classes(["a", "a", None])
    (True, False)
    """
    return len(np.unique(_strings(np.asarray(labels, dtype=object)[labelled(labels)]))) > 1


@contextmanager
def _expected_warnings() -> Iterator[None]:
    """Ignore that an optimizer stopped early, and that a small cohort has many classes for its size."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%")
        yield


def labelled(labels: Labels) -> NDArray[np.bool_]:
    """Return True for labels that are not missing."""
    return ~pd.isna(np.asarray(labels, dtype=object))


def _strings(labels: Labels) -> NDArray[np.str_]:
    """Convert labels to an array of str."""
    return np.asarray(labels, dtype=object).astype(str)
