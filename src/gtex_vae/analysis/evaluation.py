"""Everything that is measured of a trained model on held-out donors, beside the baselines a sceptic asks for.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.baselines import PCA, Mean
from gtex_vae.analysis.bootstrap import interval, metric_names
from gtex_vae.analysis.gene_embedding import decoder_jacobian, gene_embedding
from gtex_vae.analysis.gene_function import function_table
from gtex_vae.analysis.gene_sets import collections_for
from gtex_vae.analysis.held_out import open_samples
from gtex_vae.analysis.latent import effective_rank
from gtex_vae.analysis.nearest import NearestProfiles
from gtex_vae.analysis.predictability import predictability
from gtex_vae.analysis.rate import rate_metrics
from gtex_vae.analysis.score import Reconstructor, embed_in_batches, examine
from gtex_vae.analysis.tables import gene_table, tissue_table
from gtex_vae.analysis.tissue import accuracy, labelled, logreg_predict
from gtex_vae.models.trained import TrainedModel
from gtex_vae.paths import write_beside, write_json

COVARIATES = ("tissue", "donor", "sex", "age", "ischemic_time", "rin", "hardy", "batch")

Members = Mapping[str, NDArray[np.intp]]


@dataclass
class Evaluation:
    """Result of `evaluate`.

    Attributes
    ----------
    metrics
        Flat keys as in metrics.json.
    tables
        File stem to table: ``intervals``, ``genes``, ``tissues``, ``covariates``, and ``gene_function_<collection>``.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


def evaluate_run(
    run: Path, model: TrainedModel, genesets: Sequence[str] = (), *, seed: int = 0
) -> Evaluation:
    """Evaluate a run on its own held-out donors and write ``evaluation/`` into it.

    Parameters
    ----------
    run, model
        A finished training run and its model.
    genesets
        GMT files.
    seed
        As for `evaluate`.
    """
    adata = open_samples(run, model)
    parts = {
        split: (adata.X[(chosen := (adata.obs["split"] == split).to_numpy())], adata.obs[chosen])
        for split in ("train", "test")
    }
    gene_sets = collections_for(adata, genesets)
    result = evaluate(model, parts["train"], parts["test"], gene_sets=gene_sets, seed=seed)
    folder = run / "evaluation"
    for name, table in result.tables.items():
        with write_beside(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, float_format="%.6g")
    write_json(folder / "metrics.json", result.metrics)  # last: it says that all is there
    return result


def evaluate(
    model: TrainedModel,
    train: tuple[NDArray[np.float32], pd.DataFrame],
    test: tuple[NDArray[np.float32], pd.DataFrame],
    *,
    gene_sets: Mapping[str, Members],
    seed: int = 0,
) -> Evaluation:
    """Score a model, PCA, the mean, tissue means and nearest neighbours on the same held-out samples and masks.

    Parameters
    ----------
    model
        The trained model.
    train, test
        Standardized expression (n, g) and annotations of training and held-out samples.
    gene_sets
        Name of a collection to its sets' gene indices, for ``gene/function_auroc``; may be empty.
    seed
        Of masks, k-means and resamples.
    """
    (x_train_ng, train_obs), (x_test_ng, test_obs) = train, test
    pca = PCA.fit(x_train_ng, model.vae.latent_dim, seed=seed)
    methods: dict[str, Reconstructor] = {
        "": model,
        "baseline/pca/": pca,
        "baseline/mean/": Mean(),
        "baseline/knn/": NearestProfiles.neighbours(x_train_ng),
    }
    if labelled(train_obs["tissue"]).any():
        methods["baseline/tissue_mean/"] = NearestProfiles.tissue_means(x_train_ng, train_obs["tissue"])
    scores = examine(methods, x_train_ng, x_test_ng, train_obs, test_obs, seed=seed)
    result = Evaluation(metrics=scores.metrics)
    result.metrics |= rate_metrics(model.vae, x_test_ng, seed=seed)
    z_train_nd, z_test_nd = embed_in_batches(model, x_train_ng), embed_in_batches(model, x_test_ng)
    result.metrics["latent/effective_rank"] = effective_rank(z_test_nd)
    _raw_logreg(result, train, test)
    result.tables["intervals"] = _intervals(scores.samples, test_obs["donor"], seed)
    x_hat_ng = np.concatenate(
        [model.reconstruct(x) for x in np.array_split(x_test_ng, max(1, len(x_test_ng) // 512))]
    )
    result.tables["genes"] = gene_table(
        x_test_ng, x_hat_ng, pd.Index(model.gene_ids, name="gene_id"), model.gene_names
    )
    result.tables["tissues"] = tissue_table(x_test_ng, x_hat_ng, test_obs["tissue"])
    result.tables["covariates"] = predictability(z_test_nd, test_obs, COVARIATES, seed=seed)
    embeddings = {
        "": gene_embedding(decoder_jacobian(model.vae, z_train_nd, seed=seed), z_train_nd),
        "baseline/pca/": pca.components_dg.T,
        "baseline/expression/": x_train_ng.T,
    }
    _gene_function(result, embeddings, gene_sets)
    return result


def _raw_logreg(
    result: Evaluation,
    train: tuple[NDArray[np.float32], pd.DataFrame],
    test: tuple[NDArray[np.float32], pd.DataFrame],
) -> None:
    """Tissue by logistic regression on the expression itself."""
    (x_train_ng, train_obs), (x_test_ng, test_obs) = train, test
    known = labelled(train_obs["tissue"])
    if not known.any() or not labelled(test_obs["tissue"]).any():
        return
    predicted = logreg_predict(x_train_ng[known], x_test_ng, train_obs["tissue"][known])
    result.metrics["baseline/expression/tissue/logreg_accuracy"] = accuracy(predicted, test_obs["tissue"])


def _intervals(samples: Mapping[str, pd.DataFrame], donors: pd.Series, seed: int) -> pd.DataFrame:
    """The model's metrics and its paired differences from each baseline, with 95 % intervals over donors."""
    rows = []
    for name in metric_names(samples[""]):
        rows.append((name, "", *interval(name, samples[""], donors, seed=seed)))
        for prefix, table in samples.items():
            if prefix and name in metric_names(table):
                difference = interval(name, samples[""], donors, against=table, seed=seed)
                rows.append((name, prefix.strip("/"), *difference))
    return pd.DataFrame(rows, columns=["metric", "minus", "value", "low", "high"]).set_index(
        ["metric", "minus"]
    )


def _gene_function(
    result: Evaluation, embeddings: Mapping[str, NDArray], gene_sets: Mapping[str, Members]
) -> None:
    """AUROC per collection, and the mean of the collections under the fixed key."""
    for prefix, embedding_gd in embeddings.items():
        means = []
        for collection, members in gene_sets.items():
            table = function_table(embedding_gd, members)
            means.append(float(table["auroc"].mean()))
            result.metrics[f"{prefix}gene/function_auroc/{collection}"] = means[-1]
            column = prefix.strip("/").rpartition("/")[2] or "model"
            whole = result.tables.setdefault(f"gene_function_{collection}", table[["genes"]].copy())
            whole[column] = table["auroc"]
        if means:
            result.metrics[f"{prefix}gene/function_auroc"] = float(np.mean(means))
