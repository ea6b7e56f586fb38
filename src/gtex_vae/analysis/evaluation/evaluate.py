"""Metrics and tables of a trained model on held-out samples, compared with baselines.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.baselines import Mean, NearestProfiles
from gtex_vae.analysis.evaluation.by_gene_and_tissue import SquaredErrors
from gtex_vae.analysis.evaluation.latent_space import latent_tables
from gtex_vae.analysis.evaluation.missing_genes import OnPresentGenes, on_present_genes
from gtex_vae.analysis.evaluation.predictions import PredictionCollector
from gtex_vae.analysis.evaluation.rate import rate_metrics
from gtex_vae.analysis.evaluation.score import Scores, score_methods
from gtex_vae.analysis.genes.evaluation import evaluate_genes
from gtex_vae.analysis.genes.function import Members
from gtex_vae.analysis.metrics.catalogue import unavailable
from gtex_vae.analysis.metrics.covariate_prediction import predictability
from gtex_vae.analysis.metrics.coverage import Coverage
from gtex_vae.analysis.metrics.interval_table import interval_table
from gtex_vae.analysis.metrics.latent import effective_rank
from gtex_vae.analysis.metrics.reconstruction_tables import gene_table, tissue_table
from gtex_vae.analysis.metrics.tissue import accuracy, knn_predict, labelled, logreg_predict, several_classes
from gtex_vae.files import write_beside, write_json
from gtex_vae.inference.calibration import Calibration
from gtex_vae.inference.out_of_distribution import sentence, summary
from gtex_vae.inference.predictors import Reconstructor, with_covariates
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.pca import PCA

Samples = tuple[NDArray[np.float32], pd.DataFrame]  # standardized expression (n, g), annotations

COVARIATES = ("tissue", "donor", "sex", "age", "ischemic_time", "rin", "hardy", "batch")


@dataclass
class Evaluation:
    """Result of `evaluate`.

    Attributes
    ----------
    metrics
        Flat keys as in metrics.json.
    tables
        File stem to table: ``intervals``, ``genes``, ``tissues``, ``covariates``, ``out_of_distribution``, those of
        `latent_tables`, and those of `evaluate_genes`.
    gene_embeddings
        Name to embedding, shape (g, d).
    embeddings
        ``train`` and ``test`` to the embeddings of their samples, shape (n, d).
    errors
        Squared errors of the model and of PCA on held-out samples.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    gene_embeddings: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    embeddings: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    errors: SquaredErrors | None = None

    def forget(self, group: str) -> None:
        """Drop a group of metrics of the model and of the baselines."""
        self.metrics = {key: value for key, value in self.metrics.items() if group not in key}
        intervals = self.tables["intervals"]
        kept = ~intervals.index.get_level_values("metric").str.startswith(group)
        self.tables["intervals"] = intervals[kept]

    def add_verdicts(self, ood: pd.DataFrame, train_obs: pd.DataFrame | None, test_obs: pd.DataFrame) -> None:
        """Add out-of-distribution scores, with labels and the tissue of the nearest training samples."""
        ood = ood.set_index(test_obs.index.rename("sample"))
        self.metrics |= summary(ood)
        if train_obs is not None and (known := labelled(train_obs["tissue"])).any():
            z_train_nd, z_test_nd = self.embeddings["train"], self.embeddings["test"]
            ood["nearest_tissue"] = knn_predict(z_train_nd[known], z_test_nd, train_obs["tissue"][known])
        self.tables["out_of_distribution"] = ood.join(test_obs[["tissue", "donor"]].set_axis(ood.index))

    def lines(self) -> list[str]:
        """Summarize for the console: intervals, gene function, out-of-distribution verdicts, unavailable metrics."""
        lines = [self.tables["intervals"].round(4).to_string()]
        if "gene_function" in self.tables:
            lines.append(f"gene function\n{self.tables['gene_function'].iloc[:, :8].round(3).to_string()}")
        if "out_of_distribution" in self.tables:
            lines.append(sentence(self.tables["out_of_distribution"]["verdict"]))
        if missing := unavailable(self.metrics):
            lines.append(missing)
        return lines


def write_evaluation(folder: Path, result: Evaluation) -> None:
    """Write the tables, then the metrics: their file marks a complete evaluation."""
    for name, table in result.tables.items():
        with write_beside(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, float_format="%.6g")
    write_json(folder / "metrics.json", result.metrics)


def evaluate(
    model: TrainedModel,
    train: Samples | None,
    test: Samples,
    *,
    pca: PCA | None,
    gene_sets: Mapping[str, Members],
    calibration: Calibration | None = None,
    present_g: NDArray[np.bool_] | None = None,
    factors: pd.DataFrame | None = None,
    supervised_terms: int = 0,
    seed: int = 0,
) -> Evaluation:
    """Score a model, PCA, the mean, tissue means and nearest neighbours on the same held-out samples and masks.

    Parameters
    ----------
    model
        The trained model.
    train, test
        Training and held-out samples. Without training samples, baselines that need them, tissue metrics and gene
        metrics are left out.
    pca
        PCA of the training samples with as many components as the model has latent dimensions; None to leave it out.
    gene_sets
        Name of a collection to its sets' gene indices, for ``gene/function_auroc``; may be empty.
    calibration
        For interval coverage and out-of-distribution scores, fitted to the genes of the held-out samples; None to leave
        them out.
    present_g
        Genes of the held-out samples, the columns of their expression, if they lack some of the model's.
    factors
        True factors of the held-out samples, for DCI and MIG.
    supervised_terms
        Number of gene sets to predict from the gene embeddings.
    seed
        Seed of masks, k-means and resamples.
    """
    x_test_ng, test_obs = test
    present_g = np.ones(len(model.gene_ids), dtype=bool) if present_g is None else present_g
    methods = {
        prefix: on_present_genes(method, present_g) for prefix, method in _methods(model, train, pca).items()
    }
    kept = {prefix: name for prefix, name in (("", "model"), ("baseline/pca/", "pca")) if prefix in methods}
    collected = PredictionCollector(
        x_test_ng.shape, kept, None if calibration is None else calibration.intervals
    )
    x_train_ng, train_obs = (None, None) if train is None else train
    scores = score_methods(
        methods, x_train_ng, x_test_ng, train_obs, test_obs, seed=seed, on_prediction=collected
    )
    result = Evaluation(scores.metrics, embeddings=scores.embeddings[""], errors=collected.errors)
    result.metrics |= _rate(model, methods[""], test, present_g, seed=seed)
    result.metrics["latent/effective_rank"] = effective_rank(result.embeddings["test"])
    if train is not None:
        _raw_logreg(result, (train[0] if present_g.all() else train[0][:, present_g], train[1]), test)
    _tables(result, model, test, scores, collected, present_g, seed=seed)
    if calibration is not None and collected.coverage is not None:
        _coverage(result, collected.coverage.result(), test_obs)
        ood = calibration.score_encoded(result.embeddings["test"], x_test_ng, collected.x_hat_ng[""])
        result.add_verdicts(ood, train_obs, test_obs)
    latent = latent_tables(model, result.embeddings["test"], test_obs, COVARIATES, factors=factors, seed=seed)
    result.metrics |= latent.metrics
    result.tables |= latent.tables
    if train is not None and pca is not None:
        of_genes = evaluate_genes(
            model,
            result.embeddings["train"],
            pca,
            train[0],
            gene_sets,
            supervised_terms=supervised_terms,
            seed=seed,
        )
        result.metrics |= of_genes.metrics
        result.tables |= of_genes.tables
        result.gene_embeddings = of_genes.embeddings
    return result


def _methods(model: TrainedModel, train: Samples | None, pca: PCA | None) -> dict[str, Reconstructor]:
    """Return the model and its baselines by the prefix of their keys."""
    methods: dict[str, Reconstructor] = {"": model}
    if pca is not None:
        methods["baseline/pca/"] = pca
    methods["baseline/mean/"] = Mean()
    if train is not None:
        x_train_ng, obs = train
        methods["baseline/knn/"] = NearestProfiles.neighbours(x_train_ng)
        if labelled(obs["tissue"]).any():
            methods["baseline/tissue_mean/"] = NearestProfiles.tissue_means(x_train_ng, obs["tissue"])
    return methods


def _rate(
    model: TrainedModel, method: Reconstructor, test: Samples, present_g: NDArray[np.bool_], *, seed: int
) -> dict[str, float]:
    """Compute KL and ELBO; missing genes are predicted first."""
    x_ng, obs = test
    ours = with_covariates(method, obs)
    whole_ng = ours.predict_missing(x_ng) if isinstance(ours, OnPresentGenes) else x_ng
    size_n = model.sizes(obs) if present_g.all() else None  # predicted genes have no counts
    return rate_metrics(model.vae, whole_ng, model.design(obs), size_n, seed=seed)


def _tables(
    result: Evaluation,
    model: TrainedModel,
    test: Samples,
    scores: Scores,
    collected: PredictionCollector,
    present_g: NDArray[np.bool_],
    *,
    seed: int,
) -> None:
    """Add the tables of intervals, genes, tissues and covariates."""
    x_ng, obs = test
    x_hat_ng, by_pca_ng = collected.x_hat_ng[""], collected.x_hat_ng.pop("baseline/pca/", None)
    result.tables["intervals"] = interval_table(
        scores.samples,
        obs["donor"],
        seed,
        of_genes=None if by_pca_ng is None else (x_ng, x_hat_ng, by_pca_ng),
    )
    del by_pca_ng
    genes = np.flatnonzero(present_g)
    result.tables["genes"] = gene_table(
        x_ng,
        x_hat_ng,
        pd.Index(np.array(model.gene_ids)[genes], name="gene_id"),
        [model.gene_names[g] for g in genes],
    )
    result.tables["tissues"] = tissue_table(x_ng, x_hat_ng, obs["tissue"])
    result.tables["covariates"] = predictability(result.embeddings["test"], obs, COVARIATES, seed=seed)


def _coverage(result: Evaluation, found: Coverage, obs: pd.DataFrame) -> None:
    """Add interval coverage: overall, by gene and by tissue."""
    result.metrics |= found.metrics
    table = result.tables["genes"]
    result.tables["genes"] = table.join(found.genes.set_axis(table.index))
    by_tissue = found.samples.groupby(obs["tissue"].astype(object).to_numpy()).mean()
    result.tables["tissues"] = result.tables["tissues"].join(by_tissue)


def _raw_logreg(
    result: Evaluation,
    train: tuple[NDArray[np.float32], pd.DataFrame],
    test: tuple[NDArray[np.float32], pd.DataFrame],
) -> None:
    """Predict tissues by logistic regression on expression."""
    (x_train_ng, train_obs), (x_test_ng, test_obs) = train, test
    known, key = labelled(train_obs["tissue"]), "baseline/expression/tissue/logreg_accuracy"
    result.metrics[key] = float("nan")
    if not several_classes(train_obs["tissue"]) or not labelled(test_obs["tissue"]).any():
        return
    if not known.all():
        x_train_ng, train_obs = x_train_ng[known], train_obs[known]
    predicted = logreg_predict(x_train_ng, x_test_ng, train_obs["tissue"])
    result.metrics[key] = accuracy(predicted, test_obs["tissue"])
