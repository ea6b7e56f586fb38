"""Prediction of entries that are hidden at random.

Shapes: n samples, g genes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

RATES = (0.05, 0.2, 0.5)


def key(rate: float) -> str:
    """Return the key of the imputation metric at a mask rate.

    >>> key(0.05)
    'imputation/r2_05'
    """
    return f"imputation/r2_{round(100 * rate):02d}"


def hidden_batches(
    n_samples: int, n_genes: int, rate: float, *, seed: int, batch_size: int
) -> Iterator[NDArray[np.bool_]]:
    """Yield masks of independently hidden entries, batch by batch.

    Each sample's mask depends only on its row number, the rate and the seed, so that all methods and batch sizes use the same
    masks.

    Parameters
    ----------
    n_samples, n_genes
        Shape of the whole array.
    rate
        Probability that an entry is hidden.
    seed
        Seed of the masks.
    batch_size
        Samples per batch.

    Yields
    ------
    ndarray of bool
        True where hidden, shape (at most ``batch_size``, g).

    Examples
    --------
    >>> whole = np.vstack(list(hidden_batches(7, 3, 0.5, seed=0, batch_size=7)))
    >>> parts = np.vstack(list(hidden_batches(7, 3, 0.5, seed=0, batch_size=2)))
    >>> bool((whole == parts).all())
    True
    """
    for start in range(0, n_samples, batch_size):
        hidden_ng = np.empty((min(batch_size, n_samples - start), n_genes), dtype=bool)
        for row, hidden_g in enumerate(hidden_ng, start):
            random = np.random.default_rng([seed, round(1e6 * rate), row])
            np.less(random.random(n_genes, dtype=np.float32), rate, out=hidden_g)
        yield hidden_ng


def hidden_sums(
    x_ng: NDArray[np.floating], x_hat_ng: NDArray[np.floating], hidden_ng: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum squared errors and squared true values over the hidden entries of each sample, each of shape (n,)."""
    error_ng = np.where(hidden_ng, x_ng - x_hat_ng, 0)
    truth_ng = np.where(hidden_ng, x_ng, 0)
    return (
        np.einsum("ng,ng->n", error_ng, error_ng, dtype=np.float64),
        np.einsum("ng,ng->n", truth_ng, truth_ng, dtype=np.float64),
    )


def imputation_r2(
    x_ng: NDArray[np.floating], x_hat_ng: NDArray[np.floating], hidden_ng: NDArray[np.bool_]
) -> float:
    r"""Compute R2 on the hidden entries, relative to the training mean.

    .. math:: 1 - \frac{\sum_{hidden} (x - \hat x)^2}{\sum_{hidden} x^2}

    The reference is the training mean, 0 in standardized units, so that predicting the mean scores exactly 0.

    Parameters
    ----------
    x_ng
        Truth, shape (n, g), standardized with training statistics.
    x_hat_ng
        Prediction from the masked input, same shape.
    hidden_ng
        True where the entry was hidden from the predictor.

    Returns
    -------
    float
        1 for a perfect prediction, 0 for the training mean, negative if worse.

    Examples
    --------
    >>> x_ng = np.array([[1.0, -2.0]])
    >>> imputation_r2(x_ng, np.zeros((1, 2)), np.array([[True, True]]))
    0.0
    """
    squared_n, spread_n = hidden_sums(x_ng, x_hat_ng, hidden_ng)
    spread = spread_n.sum()
    return float(1 - squared_n.sum() / spread) if spread > 0 else float("nan")
