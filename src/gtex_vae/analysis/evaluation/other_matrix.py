"""Evaluation of a run on a matrix other than its own data.

Shapes: ``n`` samples, ``g`` the model's genes, ``p`` genes of the matrix.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.evaluation.evaluate import Evaluation, evaluate, write_evaluation
from gtex_vae.analysis.evaluation.missing_genes import on_present_genes
from gtex_vae.analysis.evaluation.run_samples import open_splits, run_pca
from gtex_vae.analysis.metrics.catalogue import TISSUE_KEYS
from gtex_vae.data.annotations import annotate
from gtex_vae.data.genes.mapping import MIN_OVERLAP
from gtex_vae.data.readers.backed import open_matrix
from gtex_vae.errors import MissingDataError
from gtex_vae.files import write_json
from gtex_vae.inference.calibration import Calibration, Splits
from gtex_vae.inference.encoding import model_input
from gtex_vae.inference.model_input import wanted_genes
from gtex_vae.inference.predictors import BATCH_SIZE, Embedder, with_covariates
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.pca import PCA

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OtherMatrix:
    """Samples of another matrix.

    Parameters
    ----------
    x_np
        Standardized expression of the genes present, float32.
    present_g
        True for genes of the model that the matrix has.
    obs
        Annotations with the column names of preprocess, by sample id.
    report
        Content of ``alignment.json``.
    """

    x_np: NDArray[np.float32]
    present_g: NDArray[np.bool_]
    obs: pd.DataFrame
    report: dict[str, Any]


def read_other_matrix(
    model: TrainedModel,
    path: str,
    *,
    annotations: Sequence[str] = (),
    unit: str | None = None,
    orientation: str | None = None,
    layer: str | None = None,
    min_overlap: float = MIN_OVERLAP,
) -> OtherMatrix:
    """Read a matrix and map it to a model's genes and unit.

    Parameters
    ----------
    model
        Trained model.
    path, unit, orientation, layer
        See `gtex_vae.data.readers.read_matrix`.
    annotations
        Tables with a column of sample or donor ids; annotations in the matrix take precedence.
    min_overlap
        Minimum share of the model's genes that the matrix must have.

    Raises
    ------
    DataError
        The matrix or a table cannot be used.
    """
    keep = wanted_genes(model.gene_ids, model.gene_names)
    with open_matrix(path, keep_gene=keep, unit=unit, orientation=orientation, layer=layer) as matrix:
        data = model_input(model, matrix, impute=False, min_overlap=min_overlap)
        obs, report = annotate(matrix.sample_ids, annotations, own=matrix.obs)
        present_g = data.present_g
        x_np = np.empty((len(data), int(present_g.sum())), dtype=np.float32)
        for rows, x_ng in data.blocks(BATCH_SIZE):
            x_np[rows] = model.scaler.apply_(np.ascontiguousarray(x_ng, dtype=np.float32).copy())[
                :, present_g
            ]
    return OtherMatrix(x_np, present_g, obs, {**data.report, "annotations": report})


def complete_labels(obs: pd.DataFrame) -> pd.DataFrame:
    """Add a ``tissue`` column if it is missing, and a donor of its own to each sample without one."""
    obs = obs.copy()
    if "tissue" not in obs:
        obs["tissue"] = pd.Series([None] * len(obs), index=obs.index, dtype=object)
    own = pd.Series(obs.index.astype(str), index=obs.index)
    donor = obs["donor"].astype(object) if "donor" in obs else own
    obs["donor"] = donor.where(donor.notna(), own)
    return obs


def warn_about_training_donors(obs: pd.DataFrame, train_obs: pd.DataFrame, model_tissues: set[str]) -> int:
    """Warn about samples of training donors and about unknown tissues; return the number of such samples."""
    known = obs.index.astype(str).isin(train_obs.index.astype(str))
    donors = set(train_obs["donor"].dropna().astype(str))
    seen = known | obs["donor"].astype(str).isin(donors).to_numpy()
    if seen.any():
        log.warning(
            "%d of %d samples are of donors that the model was trained on: their metrics are not those of held-out donors",
            seen.sum(), len(seen),
        )  # fmt: skip
    tissues = set(obs["tissue"].dropna().astype(str))
    if tissues and model_tissues and not tissues & model_tissues:
        log.warning(
            "no tissue of the matrix (%s, ...) is a tissue of the training samples (%s, ...): tissue accuracies are null",
            ", ".join(sorted(tissues)[:3]), ", ".join(sorted(model_tissues)[:3]),
        )  # fmt: skip
    return int(seen.sum())


def evaluate_matrix(run: Path, model: TrainedModel, other: OtherMatrix, *, seed: int = 0) -> Evaluation:
    """Evaluate a run on another matrix in the same way as on its held-out donors.

    Genes that the matrix lacks are hidden from the model and from the baselines, and are not scored; the calibration is
    then refitted to validation donors without these genes. Metrics that need tissues or donors which the matrix lacks
    are null; samples without a donor count as donors of their own. If the data of the run cannot be read, everything
    that needs it is left out, with a warning.

    Parameters
    ----------
    run, model
        Finished training run and its model.
    other
        The matrix.
    seed
        As for `evaluate`.
    """
    splits = _splits_of(run, model)
    obs = complete_labels(other.obs)
    if splits is None:
        train, pca = None, _saved_pca(run)
        train_obs = pd.read_csv(run / "splits.csv", index_col="sample").query("split == 'train'")
        tissues: set[str] = set()
        calibration = Calibration.load(run / "model") if other.present_g.all() else None
    else:
        train, train_obs = splits["train"], splits["train"][1]
        pca = run_pca(run, train[0], model.vae.latent_dim, seed=seed)
        tissues = set(train_obs["tissue"].dropna().astype(str))
        calibration = _calibration(run, model, splits, other.present_g)
    known = warn_about_training_donors(obs, train_obs, tissues)
    result = evaluate(
        model, train, (other.x_np, obs), pca=pca, gene_sets={}, calibration=calibration, present_g=other.present_g,
        seed=seed,
    )  # fmt: skip
    if splits is None and calibration is None:
        _add_verdicts_of_genes_present(result, run, model, other, obs)
    if not tissues & set(obs["tissue"].dropna().astype(str)):
        result.forget("tissue/")
    for prefix in ("", "baseline/pca/"):
        result.metrics = {
            **dict.fromkeys((prefix + key for key in TISSUE_KEYS), float("nan")),
            **result.metrics,
        }
    result.metrics |= {
        "samples": len(obs),
        "samples_of_training_donors": known,
        "genes_present": float(other.present_g.mean()),
    }
    return result


def _splits_of(run: Path, model: TrainedModel) -> Splits | None:
    """Read the samples of a run; None, with a warning, if its data cannot be read."""
    try:
        return open_splits(run, model)[0]
    except MissingDataError as error:
        log.warning(
            "%s; left out: tissue accuracies and clusters, nearest tissues, and the baselines of neighbours and tissue "
            "means; without all of the model's genes also interval coverage", error,
        )  # fmt: skip
        return None


def _saved_pca(run: Path) -> PCA | None:
    """Load the PCA that training saved; None for runs of versions that saved none."""
    path = run / "model" / PCA.FILE
    return PCA.load(path) if path.is_file() else None


def _calibration(
    run: Path, model: TrainedModel, splits: Splits, present_g: NDArray[np.bool_]
) -> Calibration | None:
    """Return the calibration of a run, refitted to the genes present if some are missing."""
    if present_g.all():
        return Calibration.load_or_fit(run, model, splits)
    ours = on_present_genes(model, present_g)
    assert isinstance(ours, Embedder)
    x_valid_ng, valid_obs = splits["val"]
    return Calibration.fit_splits(ours, splits["train"], (x_valid_ng[:, present_g], valid_obs))


def _add_verdicts_of_genes_present(
    result: Evaluation, run: Path, model: TrainedModel, other: OtherMatrix, obs: pd.DataFrame
) -> None:
    """Add out-of-distribution verdicts from the saved calibration and the genes present."""
    calibration = Calibration.load(run / "model")
    if calibration is not None:
        x_ng = np.zeros((len(obs), len(other.present_g)), dtype=np.float32)
        x_ng[:, other.present_g] = other.x_np
        ours = with_covariates(model, obs)
        result.add_verdicts(calibration.score_samples(ours, x_ng, other.present_g), None, obs)


def evaluate_input(
    run: Path, folder: Path, model: TrainedModel, path: str, *, seed: int = 0, **how: Any
) -> Evaluation:
    """Read a matrix, evaluate a run on it and write tables, metrics and ``alignment.json``.

    Parameters
    ----------
    run, model, seed
        See `evaluate_matrix`.
    folder
        Where to write.
    path, **how
        See `read_other_matrix`.
    """
    other = read_other_matrix(model, path, **how)
    log.info("measuring %s on %s: %d samples, %.1f %% of the model's genes", run, path, len(other.obs),
             100 * other.present_g.mean())  # fmt: skip
    result = evaluate_matrix(run, model, other, seed=seed)
    write_json(folder / "alignment.json", other.report)
    write_evaluation(folder, result)
    return result
