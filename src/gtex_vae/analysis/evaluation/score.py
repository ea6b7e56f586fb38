"""Scores of a model and its baselines on the same held-out samples, masks and labels.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.baselines import Mean
from gtex_vae.analysis.metrics.bootstrap import metric
from gtex_vae.analysis.metrics.catalogue import TISSUE_KEYS
from gtex_vae.analysis.metrics.imputation import RATES, hidden_batches, hidden_sums, key
from gtex_vae.analysis.metrics.latent import active_units
from gtex_vae.analysis.metrics.reconstruction import GeneSums, sample_sums
from gtex_vae.analysis.metrics.tissue import (
    accuracy,
    cluster_metrics,
    knn_predict,
    labelled,
    logreg_predict,
    several_classes,
)
from gtex_vae.data.rows import RowMatrix
from gtex_vae.inference.predictors import (
    BATCH_SIZE,
    Embedder,
    Floats,
    Reconstructor,
    batches,
    embed_in_batches,
    for_rows,
    with_covariates,
)
from gtex_vae.models.pca import PCA

# prefix of the method, share of hidden entries, rows, expression, prediction, hidden entries (None: no entry)
OnPrediction = Callable[[str, float, slice, Floats, Floats, NDArray[np.bool_] | None], None]


@dataclass
class Scores:
    """Metrics, and sums per sample and gene.

    Parameters
    ----------
    metrics
        Flat keys of the metrics file, each starting with the prefix of its method (``""`` for the model,
        ``"baseline/pca/"``, ...).
    samples
        Table of each prefix with a row per held-out sample: sums for the intervals of
        :mod:`gtex_vae.analysis.metrics.bootstrap`, and the predicted tissues.
    genes
        Per-gene sums of the reconstruction of each prefix.
    embeddings
        For each prefix of a method that embeds, embeddings of the held-out samples (``test``) and, if tissues were
        scored, of the training samples (``train``).
    """

    metrics: dict[str, float] = field(default_factory=dict)
    samples: dict[str, pd.DataFrame] = field(default_factory=dict)
    genes: dict[str, GeneSums] = field(default_factory=dict)
    embeddings: dict[str, dict[str, NDArray[np.float32]]] = field(default_factory=dict)


def score(
    model: Embedder,
    x_train_ng: RowMatrix,
    x_test_ng: NDArray[np.float32],
    train_obs: pd.DataFrame,
    test_obs: pd.DataFrame,
    *,
    pca: PCA | None = None,
    seed: int = 0,
    rates: Sequence[float] = RATES,
    batch_size: int = BATCH_SIZE,
) -> dict[str, float]:
    """Compute the metrics of a model on held-out samples, and those of PCA of the same size and of the training mean.

    Parameters
    ----------
    model
        The trained model.
    x_train_ng, x_test_ng
        Training and held-out samples, standardized with training statistics, float32, shapes (n, g).
        They are read in batches: memory-mapped arrays are possible, for training also `gtex_vae.data.rows.LazyRows`.
    train_obs, test_obs
        Annotations of the samples. Tissue and cluster metrics need a ``tissue`` column.
    pca
        PCA of the training samples with as many components as the model; None to fit it here.
    seed
        Seed of the masks, of PCA and of k-means.
    rates
        Shares of entries to hide.
    batch_size
        Samples at a time; affects memory, not results.

    Returns
    -------
    dict
        Flat keys; those of the baselines start with ``baseline/pca/`` and ``baseline/mean/``.
    """
    if pca is None:
        size = np.asarray(model.embed(np.ascontiguousarray(x_test_ng[:2]))).shape[1]
        pca = PCA.fit(x_train_ng, size, seed=seed)
    methods: dict[str, Reconstructor] = {"": model, "baseline/pca/": pca, "baseline/mean/": Mean()}
    return score_methods(
        methods,
        x_train_ng,
        x_test_ng,
        train_obs,
        test_obs,
        seed=seed,
        rates=rates,
        batch_size=batch_size,
    ).metrics


def score_methods(
    methods: Mapping[str, Reconstructor],
    x_train_ng: RowMatrix | None,
    x_test_ng: NDArray[np.float32],
    train_obs: pd.DataFrame | None,
    test_obs: pd.DataFrame,
    *,
    seed: int = 0,
    rates: Sequence[float] = RATES,
    batch_size: int = BATCH_SIZE,
    on_prediction: OnPrediction | None = None,
) -> Scores:
    """Score several methods on held-out samples, and keep the sums that intervals and tables need.

    Parameters
    ----------
    methods
        Prefix of the keys to method. Methods that embed also get latent, tissue and cluster metrics.
    x_train_ng, x_test_ng, train_obs, test_obs, seed, rates, batch_size
        As for :func:`score`; without training samples there are no tissue and cluster metrics.
    on_prediction
        Callback, called with every prediction.

    Returns
    -------
    Scores
        Metrics, embeddings, and sums by sample and by gene, of each method.
    """
    of_test = {prefix: with_covariates(method, test_obs) for prefix, method in methods.items()}
    scores = score_reconstruction(
        of_test, x_test_ng, seed=seed, rates=rates, batch_size=batch_size, on_prediction=on_prediction
    )
    for prefix, method in methods.items():
        if not isinstance(method, Embedder):
            continue
        z_test_nd = embed_in_batches(of_test[prefix], x_test_ng, batch_size)
        scores.embeddings[prefix] = {"test": z_test_nd}
        scores.metrics[f"{prefix}latent/active_units"] = active_units(z_test_nd)
        if (
            x_train_ng is not None
            and train_obs is not None
            and "tissue" in train_obs
            and "tissue" in test_obs
        ):
            z_train_nd = embed_in_batches(with_covariates(method, train_obs), x_train_ng, batch_size)
            scores.embeddings[prefix]["train"] = z_train_nd
            _score_tissue(
                scores, prefix, z_train_nd, z_test_nd, train_obs["tissue"], test_obs["tissue"], seed=seed
            )
    return scores


def score_reconstruction(
    methods: Mapping[str, Reconstructor],
    x_ng: NDArray[np.float32],
    *,
    seed: int = 0,
    rates: Sequence[float] = RATES,
    batch_size: int = BATCH_SIZE,
    on_prediction: OnPrediction | None = None,
) -> Scores:
    """Score reconstruction and imputation of several methods on the same masked input.

    Parameters
    ----------
    methods
        Prefix of the keys to method.
    x_ng
        Held-out samples, standardized, shape (n, g).
    seed, rates, batch_size, on_prediction
        As for :func:`score_methods`.

    Returns
    -------
    Scores
        Metrics ``reconstruction/...`` and ``imputation/...`` of each prefix. The tables of samples have the columns
        of :func:`~gtex_vae.analysis.metrics.reconstruction.sample_sums` and for each rate
        ``hidden_squared_20``, ``hidden_spread_20``.
    """
    n, g = x_ng.shape
    genes: dict[str, GeneSums] = {}
    tables: dict[str, list[pd.DataFrame]] = {prefix: [] for prefix in methods}
    masks = [hidden_batches(n, g, rate, seed=seed, batch_size=batch_size) for rate in rates]
    for rows, batch_ng in batches(x_ng, batch_size, progress="scoring"):
        hidden = {rate: next(masks_of) for rate, masks_of in zip(rates, masks, strict=True)}
        for prefix, whole in methods.items():
            method = for_rows(whole, rows)
            x_hat_ng = np.asarray(method.reconstruct(batch_ng, None))
            if on_prediction is not None:
                on_prediction(prefix, 0.0, rows, batch_ng, x_hat_ng, None)
            of_genes = GeneSums.of(batch_ng, x_hat_ng)
            genes[prefix] = genes[prefix] + of_genes if prefix in genes else of_genes
            sums = sample_sums(batch_ng, x_hat_ng)
            for rate, hidden_ng in hidden.items():
                masked_ng = np.where(hidden_ng, np.float32(0), batch_ng)
                x_hat_ng = np.asarray(method.reconstruct(masked_ng, ~hidden_ng))
                if on_prediction is not None:
                    on_prediction(prefix, rate, rows, batch_ng, x_hat_ng, hidden_ng)
                squared_n, spread_n = hidden_sums(batch_ng, x_hat_ng, hidden_ng)
                name = f"{round(100 * rate):02d}"
                sums |= {f"hidden_squared_{name}": squared_n, f"hidden_spread_{name}": spread_n}
            tables[prefix].append(pd.DataFrame(sums))
    scores = Scores(genes=genes)
    for prefix in methods:
        samples = pd.concat(tables[prefix], ignore_index=True)
        totals = {str(column): np.asarray(samples[column].sum()) for column in samples}
        scores.samples[prefix] = samples
        scores.metrics |= {prefix + name: value for name, value in genes[prefix].metrics().items()}
        scores.metrics |= {prefix + key(rate): float(metric(key(rate), totals)) for rate in rates}
    return scores


def _score_tissue(
    scores: Scores,
    prefix: str,
    z_train_nd: NDArray[np.float32],
    z_test_nd: NDArray[np.float32],
    train_tissues: pd.Series,
    test_tissues: pd.Series,
    seed: int,
) -> None:
    """Add tissue and cluster metrics; NaN if training samples have fewer than two tissues, or test samples none."""
    train, test = labelled(train_tissues), labelled(test_tissues)
    scores.metrics |= {f"{prefix}{key}": float("nan") for key in TISSUE_KEYS}
    if not several_classes(train_tissues) or not test.any():
        return
    samples = scores.samples[prefix]
    samples["labelled"] = test
    for name, predict in (("knn", knn_predict), ("logreg", logreg_predict)):
        predicted = predict(z_train_nd[train], z_test_nd, train_tissues[train])
        scores.metrics[f"{prefix}tissue/{name}_accuracy"] = accuracy(predicted, test_tissues)
        samples[f"{name}_tissue"] = predicted
        samples[f"{name}_right"] = test & (predicted == test_tissues.to_numpy().astype(str))
    clusters = cluster_metrics(z_test_nd[test], test_tissues[test], seed=seed)
    scores.metrics |= {prefix + name: value for name, value in clusters.items()}
