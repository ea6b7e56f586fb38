"""Two-dimensional maps of an embedding, reproducible by seed.

Shapes: ``n`` samples, ``d`` latent dimensions.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

UMAP_NEIGHBOURS = 15
UMAP_DISTANCE = 0.5  # with the default of 0.1, tissues shrink to dots
PERPLEXITY = 30.0
FFT_FROM = 2000  # samples above which interpolation is faster than the Barnes-Hut tree


def pca_map(z_nd: NDArray[np.floating]) -> NDArray[np.float32]:
    """Project on the first two principal components, with signs that make the largest score positive.

    Parameters
    ----------
    z_nd
        Embedding, shape (n, d).

    Returns
    -------
    ndarray of float32
        Shape (n, 2); zeros if a component does not exist.

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
    """Compute a UMAP with 15 neighbours and a minimum distance of 0.5.

    Parameters
    ----------
    z_nd
        Embedding, shape (n, d), at least 4 samples.
    seed
        Seed of the initial layout and of the optimization, which runs on one thread to be reproducible.

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
    # spectral initialization needs more samples than components
    start = "spectral" if len(z_nd) > 10 else "random"
    model = UMAP(n_neighbors=neighbours, min_dist=UMAP_DISTANCE, init=start, random_state=seed, n_jobs=1)
    return np.asarray(model.fit_transform(z_nd), dtype=np.float32)


def tsne_map(z_nd: NDArray[np.floating], *, seed: int = 0) -> NDArray[np.float32]:
    """Compute a t-SNE with perplexity 30, initialized by PCA, or at random if there is only one dimension.

    Parameters
    ----------
    z_nd
        Embedding, shape (n, d), at least 4 samples.
    seed
        Seed of the initial layout.

    Returns
    -------
    ndarray of float32
        Shape (n, 2).

    References
    ----------
    Policar, Strazar and Zupan (2024), openTSNE: a modular Python library for t-SNE.
    """
    from openTSNE import TSNE

    logging.getLogger("openTSNE").setLevel(logging.WARNING)  # it logs its choice of initialization
    model = TSNE(
        perplexity=min(PERPLEXITY, (len(z_nd) - 1) / 3),
        neighbors="exact",  # approximate indices are not reproducible
        negative_gradient_method="fft" if len(z_nd) > FFT_FROM else "bh",
        initialization="pca" if z_nd.shape[1] > 1 else "random",
        random_state=seed,
        n_jobs=1,
    )
    return np.asarray(model.fit(np.asarray(z_nd, dtype=np.float64)), dtype=np.float32)
