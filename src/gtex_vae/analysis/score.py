"""Score a model and its baselines on the same held-out samples, masks and labels.

Shapes: n samples, g genes, d latent dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.baselines import PCA, Mean
from gtex_vae.analysis.imputation import RATES, HiddenSums, hidden_batches, key
from gtex_vae.analysis.latent import active_units
from gtex_vae.analysis.reconstruction import GeneSums
from gtex_vae.analysis.tissue import tissue_metrics


class Reconstructor(Protocol):
    """Anything that predicts all entries from some of them."""

    def reconstruct(self, x_ng: NDArray[np.float32], observed_ng: NDArray[np.bool_] | None = None) -> Any:
        """Reconstruct every entry.

        Parameters
        ----------
        x_ng
            Standardized samples, float32, shape (n, g); hidden entries are 0, the training mean.
        observed_ng
            False where an entry is hidden; None when nothing is.

        Returns
        -------
        array-like
            Mean of the reconstruction, shape (n, g): an ndarray or a CPU tensor without gradient.
        """
        ...


@runtime_checkable
class Embedder(Reconstructor, Protocol):
    """A reconstructor that also embeds: a trained model, or PCA."""

    def embed(self, x_ng: NDArray[np.float32]) -> Any:
        """Posterior mean of standardized samples, shape (n, d)."""
        ...


def score(
    model: Embedder,
    x_train_ng: NDArray[np.float32],
    x_test_ng: NDArray[np.float32],
    train_obs: pd.DataFrame,
    test_obs: pd.DataFrame,
    *,
    pca: PCA | None = None,
    seed: int = 0,
    rates: Sequence[float] = RATES,
    batch_size: int = 512,
) -> dict[str, float]:
    """Metrics of a model on held-out samples, beside PCA of the same size and the training mean.

    Parameters
    ----------
    model
        The trained model.
    x_train_ng, x_test_ng
        Training and held-out samples, standardized with training statistics, float32, shapes (n, g).
        Memory-mapped arrays will do: they are read in batches.
    train_obs, test_obs
        Annotations of their samples; without a ``tissue`` column there are no tissue and cluster metrics.
    pca
        A PCA of the training samples with as many components as the model; None to fit it here.
    seed
        Seed of the masks, of PCA's random start and of k-means.
    rates
        Shares of entries to hide.
    batch_size
        Samples at a time; changes memory, not results.

    Returns
    -------
    dict
        Flat keys; the baselines' are the model's behind ``baseline/pca/`` and ``baseline/mean/``.
    """
    z_train_nd = embed_in_batches(model, x_train_ng, batch_size)
    if pca is None:
        pca = PCA.fit(x_train_ng, z_train_nd.shape[1], seed=seed)
    methods: dict[str, Reconstructor] = {"": model, "baseline/pca/": pca, "baseline/mean/": Mean()}
    result = score_reconstruction(methods, x_test_ng, seed=seed, rates=rates, batch_size=batch_size)
    for prefix, method in methods.items():
        if isinstance(method, Embedder):
            z_test_nd = embed_in_batches(method, x_test_ng, batch_size)
            if method is not model:
                z_train_nd = embed_in_batches(method, x_train_ng, batch_size)
            result[f"{prefix}latent/active_units"] = active_units(z_test_nd)
            if "tissue" in train_obs and "tissue" in test_obs:
                of_tissue = tissue_metrics(
                    z_train_nd, z_test_nd, train_obs["tissue"], test_obs["tissue"], seed=seed
                )
                result |= {prefix + name: value for name, value in of_tissue.items()}
    return result


def score_reconstruction(
    methods: Mapping[str, Reconstructor],
    x_ng: NDArray[np.float32],
    *,
    seed: int = 0,
    rates: Sequence[float] = RATES,
    batch_size: int = 512,
) -> dict[str, float]:
    """Reconstruction and imputation metrics of several methods, all given the same masked input.

    Parameters
    ----------
    methods
        Prefix of the keys to method.
    x_ng
        Held-out samples, standardized, shape (n, g).
    seed, rates, batch_size
        As for :func:`score`.

    Returns
    -------
    dict
        For each prefix the keys ``reconstruction/...`` and ``imputation/...``.
    """
    from tqdm import tqdm

    n, g = x_ng.shape
    whole: dict[str, GeneSums] = {}
    hidden = {(prefix, rate): HiddenSums() for prefix in methods for rate in rates}
    masks = zip(
        *(hidden_batches(n, g, rate, seed=seed, batch_size=batch_size) for rate in rates), strict=True
    )
    starts = range(0, n, batch_size)
    for start in tqdm(starts, desc="scoring", unit="batch", leave=False):
        batch_ng = np.ascontiguousarray(x_ng[start : start + batch_size], dtype=np.float32)
        for prefix, method in methods.items():
            sums = GeneSums.of(batch_ng, np.asarray(method.reconstruct(batch_ng, None)))
            whole[prefix] = whole[prefix] + sums if prefix in whole else sums
        for rate, hidden_ng in zip(rates, next(masks) if rates else (), strict=True):
            masked_ng = np.where(hidden_ng, np.float32(0), batch_ng)
            for prefix, method in methods.items():
                x_hat_ng = np.asarray(method.reconstruct(masked_ng, ~hidden_ng))
                hidden[prefix, rate] += HiddenSums.of(batch_ng, x_hat_ng, hidden_ng)
    result = {prefix + name: value for prefix in methods for name, value in whole[prefix].metrics().items()}
    return result | {prefix + key(rate): sums.r2() for (prefix, rate), sums in hidden.items()}


def embed_in_batches(
    model: Embedder, x_ng: NDArray[np.float32], batch_size: int = 512
) -> NDArray[np.float32]:
    """Embedding of all samples, shape (n, d), computed ``batch_size`` samples at a time."""
    starts = range(0, len(x_ng), batch_size)
    parts = [np.asarray(model.embed(np.ascontiguousarray(x_ng[i : i + batch_size]))) for i in starts]
    return np.concatenate(parts).astype(np.float32, copy=False)
