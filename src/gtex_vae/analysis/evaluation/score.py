"""Score a model and its baselines on the same held-out samples, masks and labels.

Shapes: n samples, g genes, d latent dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.baselines import PCA, Mean
from gtex_vae.analysis.metrics.bootstrap import metric
from gtex_vae.analysis.metrics.imputation import RATES, hidden_batches, hidden_sums, key
from gtex_vae.analysis.metrics.latent import active_units
from gtex_vae.analysis.metrics.reconstruction import GeneSums, sample_sums
from gtex_vae.analysis.metrics.tissue import accuracy, cluster_metrics, knn_predict, labelled, logreg_predict
from gtex_vae.data.rows import RowMatrix, blocks_of

Floats = NDArray[np.float32]
# prefix, share of hidden entries, rows, samples, prediction, what was hidden; so that nothing is predicted twice
Watch = Callable[[str, float, slice, Floats, Floats, NDArray[np.bool_] | None], None]


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


@runtime_checkable
class Conditional(Protocol):
    """A method that takes the covariates of its samples, or can be told them: a trained model."""

    def told(self, obs: pd.DataFrame) -> Any:
        """The method for the samples of these annotations."""
        ...

    def part(self, rows: slice) -> Any:
        """The method for a part of its samples."""
        ...


def told(method: Any, obs: pd.DataFrame) -> Any:
    """A method as it is to be given the samples of these annotations: PCA needs no telling."""
    return method.told(obs) if isinstance(method, Conditional) else method


def part(method: Any, rows: slice) -> Any:
    """A method as it is to be given a part of its samples."""
    return method.part(rows) if isinstance(method, Conditional) else method


@dataclass
class Scores:
    """What scoring found out, as figures and sample by sample.

    Parameters
    ----------
    metrics
        Flat keys of the metrics file. A method's prefix (``""`` for the model, ``"baseline/pca/"``, ...)
        stands before each.
    samples
        For each prefix a table with a row per held-out sample: sums from which
        :mod:`gtex_vae.analysis.metrics.bootstrap` computes intervals, and the predicted tissues.
    genes
        For each prefix the per-gene sums of the reconstruction.
    embeddings
        For each prefix of a method that embeds, those of the training samples (where tissues were scored) and of the
        held-out samples.
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
    batch_size: int = 512,
) -> dict[str, float]:
    """Metrics of a model on held-out samples, beside PCA of the same size and the training mean.

    Parameters
    ----------
    model
        The trained model.
    x_train_ng, x_test_ng
        Training and held-out samples, standardized with training statistics, float32, shapes (n, g).
        Memory-mapped arrays will do, and for training `gtex_vae.data.rows.LazyRows`: they are read in batches.
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
    if pca is None:
        size = np.asarray(model.embed(np.ascontiguousarray(x_test_ng[:2]))).shape[1]
        pca = PCA.fit(x_train_ng, size, seed=seed)
    methods: dict[str, Reconstructor] = {"": model, "baseline/pca/": pca, "baseline/mean/": Mean()}
    return examine(
        methods,
        x_train_ng,
        x_test_ng,
        train_obs,
        test_obs,
        seed=seed,
        rates=rates,
        batch_size=batch_size,
    ).metrics


def examine(
    methods: Mapping[str, Reconstructor],
    x_train_ng: RowMatrix,
    x_test_ng: NDArray[np.float32],
    train_obs: pd.DataFrame,
    test_obs: pd.DataFrame,
    *,
    seed: int = 0,
    rates: Sequence[float] = RATES,
    batch_size: int = 512,
    watch: Watch | None = None,
) -> Scores:
    """Score any methods on held-out samples, and keep what intervals and tables need.

    Parameters
    ----------
    methods
        Prefix of the keys to method. Those that embed also get latent, tissue and cluster metrics.
    x_train_ng, x_test_ng, train_obs, test_obs, seed, rates, batch_size
        As for :func:`score`.
    watch
        Is shown every prediction.

    Returns
    -------
    Scores
        Metrics, embeddings, and tables by sample and by gene, of each method.
    """
    of_test = {prefix: told(method, test_obs) for prefix, method in methods.items()}
    scores = score_reconstruction(
        of_test, x_test_ng, seed=seed, rates=rates, batch_size=batch_size, watch=watch
    )
    for prefix, method in methods.items():
        if not isinstance(method, Embedder):
            continue
        z_test_nd = embed_in_batches(of_test[prefix], x_test_ng, batch_size)
        scores.embeddings[prefix] = {"test": z_test_nd}
        scores.metrics[f"{prefix}latent/active_units"] = active_units(z_test_nd)
        if "tissue" in train_obs and "tissue" in test_obs:
            z_train_nd = embed_in_batches(told(method, train_obs), x_train_ng, batch_size)
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
    batch_size: int = 512,
    watch: Watch | None = None,
) -> Scores:
    """Reconstruction and imputation of several methods, all given the same masked input.

    Parameters
    ----------
    methods
        Prefix of the keys to method.
    x_ng
        Held-out samples, standardized, shape (n, g).
    seed, rates, batch_size, watch
        As for :func:`examine`.

    Returns
    -------
    Scores
        For each prefix the metrics ``reconstruction/...`` and ``imputation/...``. The tables of samples have
        the columns of :func:`~gtex_vae.analysis.metrics.reconstruction.sample_sums` and for each rate
        ``hidden_squared_20``, ``hidden_spread_20``.
    """
    from tqdm import tqdm

    n, g = x_ng.shape
    genes: dict[str, GeneSums] = {}
    batches: dict[str, list[pd.DataFrame]] = {prefix: [] for prefix in methods}
    masks = [hidden_batches(n, g, rate, seed=seed, batch_size=batch_size) for rate in rates]
    starts = range(0, n, batch_size)
    for start in tqdm(starts, desc="scoring", unit="batch", leave=False, disable=None):
        batch_ng = np.ascontiguousarray(x_ng[start : start + batch_size], dtype=np.float32)
        rows = slice(start, start + len(batch_ng))
        hidden = {rate: next(masks_of) for rate, masks_of in zip(rates, masks, strict=True)}
        for prefix, whole in methods.items():
            method = part(whole, rows)
            x_hat_ng = np.asarray(method.reconstruct(batch_ng, None))
            if watch is not None:
                watch(prefix, 0.0, rows, batch_ng, x_hat_ng, None)
            of_genes = GeneSums.of(batch_ng, x_hat_ng)
            genes[prefix] = genes[prefix] + of_genes if prefix in genes else of_genes
            sums = sample_sums(batch_ng, x_hat_ng)
            for rate, hidden_ng in hidden.items():
                masked_ng = np.where(hidden_ng, np.float32(0), batch_ng)
                x_hat_ng = np.asarray(method.reconstruct(masked_ng, ~hidden_ng))
                if watch is not None:
                    watch(prefix, rate, rows, batch_ng, x_hat_ng, hidden_ng)
                squared_n, spread_n = hidden_sums(batch_ng, x_hat_ng, hidden_ng)
                name = f"{round(100 * rate):02d}"
                sums |= {f"hidden_squared_{name}": squared_n, f"hidden_spread_{name}": spread_n}
            batches[prefix].append(pd.DataFrame(sums))
    scores = Scores(genes=genes)
    for prefix in methods:
        samples = pd.concat(batches[prefix], ignore_index=True)
        totals = {str(column): np.asarray(samples[column].sum()) for column in samples}
        scores.samples[prefix] = samples
        scores.metrics |= {prefix + name: value for name, value in genes[prefix].metrics().items()}
        scores.metrics |= {prefix + key(rate): float(metric(key(rate), totals)) for rate in rates}
    return scores


def embed_in_batches(model: Embedder, x_ng: RowMatrix, batch_size: int = 512) -> NDArray[np.float32]:
    """Embedding of all samples, shape (n, d), computed ``batch_size`` samples at a time."""
    parts = [
        np.asarray(part(model, rows).embed(np.ascontiguousarray(block_ng)))
        for rows, block_ng in blocks_of(x_ng, batch_size)
    ]
    return np.concatenate(parts).astype(np.float32, copy=False)


def _score_tissue(
    scores: Scores,
    prefix: str,
    z_train_nd: NDArray[np.float32],
    z_test_nd: NDArray[np.float32],
    train_tissues: pd.Series,
    test_tissues: pd.Series,
    seed: int,
) -> None:
    """Add tissue and cluster metrics to the scores; nothing where no sample has a label."""
    train, test = labelled(train_tissues), labelled(test_tissues)
    if not train.any() or not test.any():
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
