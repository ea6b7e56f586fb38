"""Maps of an embedding on the plane; the same seed gives the same map.

Shapes: ``n`` samples, ``d`` latent dimensions.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

UMAP_NEIGHBOURS = 15
UMAP_DISTANCE = 0.5  # tissues are so far apart that the default of 0.1 shrinks each to a dot
PERPLEXITY = 30.0
FFT_FROM = 2000  # samples above which interpolation beats the Barnes-Hut tree


def pca_map(z_nd: NDArray[np.floating]) -> NDArray[np.float32]:
    """First two principal components, the sign of each such that its largest score is positive.

    Parameters
    ----------
    z_nd
        Embedding, shape (n, d).

    Returns
    -------
    ndarray of float32
        Shape (n, 2); zeros for a component that does not exist.

    Examples
    --------
    >>> pca_map(np.array([[0.0], [1.0], [5.0]])).tolist()
    [[-2.0, 0.0], [-1.0, 0.0], [3.0, 0.0]]
    """
    centred_nd = np.asarray(z_nd, dtype=np.float64) - np.mean(z_nd, axis=0, dtype=np.float64)
    left, singular, _ = np.linalg.svd(centred_nd, full_matrices=False)
    found = min(2, len(singular))
    xy = np.zeros((len(z_nd), 2))
    xy[:, :found] = left[:, :found] * singular[:found]
    largest = xy[np.abs(xy).argmax(axis=0), [0, 1]]
    return np.asarray(xy * np.where(largest < 0, -1.0, 1.0), dtype=np.float32)


def umap_map(z_nd: NDArray[np.floating], *, seed: int = 0) -> NDArray[np.float32]:
    """UMAP of 15 neighbours, least distance 0.5.

    Parameters
    ----------
    z_nd
        Embedding, shape (n, d), at least 4 samples.
    seed
        Of the initial layout and of the optimization, which runs on one thread for its sake.

    Returns
    -------
    ndarray of float32
        Shape (n, 2).

    References
    ----------
    McInnes, Healy and Melville (2018), UMAP: Uniform Manifold Approximation and Projection.
    """
    from umap import UMAP

    neighbours = min(UMAP_NEIGHBOURS, len(z_nd) - 1)
    # the spectral start needs more samples than it has components
    start = "spectral" if len(z_nd) > 10 else "random"
    model = UMAP(n_neighbors=neighbours, min_dist=UMAP_DISTANCE, init=start, random_state=seed, n_jobs=1)
    return np.asarray(model.fit_transform(z_nd), dtype=np.float32)


def tsne_map(z_nd: NDArray[np.floating], *, seed: int = 0) -> NDArray[np.float32]:
    """t-SNE of perplexity 30, started from PCA, or at random where there is one dimension only.

    Parameters
    ----------
    z_nd
        Embedding, shape (n, d), at least 4 samples.
    seed
        Of the initial layout.

    Returns
    -------
    ndarray of float32
        Shape (n, 2).

    References
    ----------
    Policar, Strazar and Zupan (2024), openTSNE: a modular Python library for t-SNE.
    """
    from openTSNE import TSNE

    logging.getLogger("openTSNE").setLevel(logging.WARNING)  # it remarks on a start of its own choosing
    model = TSNE(
        perplexity=min(PERPLEXITY, (len(z_nd) - 1) / 3),
        neighbors="exact",  # no index whose building could differ from run to run
        negative_gradient_method="fft" if len(z_nd) > FFT_FROM else "bh",
        initialization="pca" if z_nd.shape[1] > 1 else "random",
        random_state=seed,
        n_jobs=1,
    )
    return np.asarray(model.fit(np.asarray(z_nd, dtype=np.float64)), dtype=np.float32)
