"""Everything that is measured of a trained model on held-out donors, beside the baselines a sceptic asks for.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.baselines import Mean, NearestProfiles
from gtex_vae.analysis.evaluation.by_gene_and_tissue import SquaredErrors
from gtex_vae.analysis.evaluation.latent_space import latent_tables
from gtex_vae.analysis.evaluation.missing_genes import OnPresentGenes, on_present_genes
from gtex_vae.analysis.evaluation.predictions import PredictionCollector
from gtex_vae.analysis.evaluation.rate import rate_metrics
from gtex_vae.analysis.evaluation.score import score_methods
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

if TYPE_CHECKING:
    pass

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
        """Drop a group of metrics, the model's and the baselines'."""
        self.metrics = {key: value for key, value in self.metrics.items() if group not in key}
        intervals = self.tables["intervals"]
        kept = ~intervals.index.get_level_values("metric").str.startswith(group)
        self.tables["intervals"] = intervals[kept]

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
    """Write the tables, and last the metrics: they say that all is there."""
    for name, table in result.tables.items():
        with write_beside(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, float_format="%.6g")
    write_json(folder / "metrics.json", result.metrics)


def evaluate(
    model: TrainedModel,
    train: tuple[NDArray[np.float32], pd.DataFrame],
    test: tuple[NDArray[np.float32], pd.DataFrame],
    *,
    pca: PCA,
    gene_sets: Mapping[str, Members],
    reference: Calibration | None = None,
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
        Standardized expression (n, g) and annotations of training and held-out samples.
    pca
        PCA of the training samples with as many components as the model has latent dimensions.
    gene_sets
        Name of a collection to its sets' gene indices, for ``gene/function_auroc``; may be empty.
    reference
        For interval coverage and out-of-distribution scores, fitted to the genes that the held-out samples have; left
        out where it is None.
    present_g
        Genes that the held-out samples have, where these are not all of the model's: theirs are the columns of the
        held-out expression.
    factors
        Known truth of the held-out samples, for DCI and MIG.
    supervised_terms
        Gene sets to predict from the gene embeddings.
    seed
        Of masks, k-means and resamples.
    """
    (x_train_ng, train_obs), (x_test_ng, test_obs) = train, test
    present_g = np.ones(len(model.gene_ids), dtype=bool) if present_g is None else present_g
    methods: dict[str, Reconstructor] = {
        "": model,
        "baseline/pca/": pca,
        "baseline/mean/": Mean(),
        "baseline/knn/": NearestProfiles.neighbours(x_train_ng),
    }
    if labelled(train_obs["tissue"]).any():
        methods["baseline/tissue_mean/"] = NearestProfiles.tissue_means(x_train_ng, train_obs["tissue"])
    methods = {prefix: on_present_genes(method, present_g) for prefix, method in methods.items()}
    intervals = None if reference is None else reference.intervals
    predicted = PredictionCollector(x_test_ng.shape, {"": "model", "baseline/pca/": "pca"}, intervals)
    scores = score_methods(
        methods, x_train_ng, x_test_ng, train_obs, test_obs, seed=seed, on_prediction=predicted
    )
    result = Evaluation(metrics=scores.metrics)
    z_train_nd, z_test_nd = scores.embeddings[""]["train"], scores.embeddings[""]["test"]
    ours = with_covariates(methods[""], test_obs)
    whole_ng = ours.predict_missing(x_test_ng) if isinstance(ours, OnPresentGenes) else x_test_ng
    size_n = model.sizes(test_obs) if present_g.all() else None  # predicted genes have no counts
    result.metrics |= rate_metrics(model.vae, whole_ng, model.design(test_obs), size_n, seed=seed)
    del whole_ng
    result.embeddings = {"train": z_train_nd, "test": z_test_nd}
    result.errors = predicted.errors
    result.metrics["latent/effective_rank"] = effective_rank(z_test_nd)
    _raw_logreg(result, (x_train_ng if present_g.all() else x_train_ng[:, present_g], train_obs), test)
    x_hat_ng, by_pca_ng = predicted.x_hat_ng[""], predicted.x_hat_ng.pop("baseline/pca/")
    result.tables["intervals"] = interval_table(
        scores.samples, test_obs["donor"], seed, of_genes=(x_test_ng, x_hat_ng, by_pca_ng)
    )
    del by_pca_ng
    genes = np.flatnonzero(present_g)
    result.tables["genes"] = gene_table(
        x_test_ng,
        x_hat_ng,
        pd.Index(np.array(model.gene_ids)[genes], name="gene_id"),
        [model.gene_names[g] for g in genes],
    )
    result.tables["tissues"] = tissue_table(x_test_ng, x_hat_ng, test_obs["tissue"])
    result.tables["covariates"] = predictability(z_test_nd, test_obs, COVARIATES, seed=seed)
    if reference is not None and predicted.coverage is not None:
        _coverage(result, predicted.coverage.result(), test_obs)
        judged = reference.score_encoded(z_test_nd, x_test_ng, x_hat_ng)
        judged = judged.set_index(test_obs.index.rename("sample"))
        result.metrics |= summary(judged)
        result.tables["out_of_distribution"] = _beside_labels(
            judged, z_train_nd, z_test_nd, train_obs, test_obs
        )
    latent = latent_tables(model, z_test_nd, test_obs, COVARIATES, factors=factors, seed=seed)
    result.metrics |= latent.metrics
    result.tables |= latent.tables
    genes_judged = evaluate_genes(
        model, z_train_nd, pca, x_train_ng, gene_sets, supervised_terms=supervised_terms, seed=seed
    )
    result.metrics |= genes_judged.metrics
    result.tables |= genes_judged.tables
    result.gene_embeddings = genes_judged.embeddings
    return result


def _coverage(result: Evaluation, found: Coverage, obs: pd.DataFrame) -> None:
    """How often intervals hold what was measured: overall, by gene and by tissue."""
    result.metrics |= found.metrics
    table = result.tables["genes"]
    result.tables["genes"] = table.join(found.genes.set_axis(table.index))
    by_tissue = found.samples.groupby(obs["tissue"].astype(object).to_numpy()).mean()
    result.tables["tissues"] = result.tables["tissues"].join(by_tissue)


def _beside_labels(
    judged: pd.DataFrame,
    z_train_nd: NDArray[np.float32],
    z_test_nd: NDArray[np.float32],
    train_obs: pd.DataFrame,
    test_obs: pd.DataFrame,
) -> pd.DataFrame:
    """The verdicts with what is known of each sample, and the tissue of its nearest training samples."""
    known = labelled(train_obs["tissue"])
    if known.any():
        judged["nearest_tissue"] = knn_predict(z_train_nd[known], z_test_nd, train_obs["tissue"][known])
    return judged.join(test_obs[["tissue", "donor"]].set_axis(judged.index))


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
