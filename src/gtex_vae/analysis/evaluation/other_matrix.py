"""A matrix from elsewhere, brought to a model's genes so that it can be scored like held-out donors.

Shapes: ``n`` samples, ``g`` the model's genes, ``p`` those of them that the matrix has.
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
from gtex_vae.files import write_json
from gtex_vae.inference.calibration import Calibration
from gtex_vae.inference.encoding import model_input
from gtex_vae.inference.model_input import wanted_genes
from gtex_vae.inference.predictors import Embedder
from gtex_vae.inference.trained_model import TrainedModel

log = logging.getLogger(__name__)

BATCH = 512


@dataclass(frozen=True)
class OtherMatrix:
    """Samples of another matrix.

    Parameters
    ----------
    x_np
        Standardized expression of the genes that the matrix has, float32.
    present_g
        Which of the model's genes these are.
    obs
        Annotations, as preprocess would make them, by sample id.
    report
        What ``alignment.json`` says.
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
    """Read a matrix and align it to a model.

    Parameters
    ----------
    model
        Trained model.
    path, unit, orientation, layer
        See `gtex_vae.data.readers.read_matrix`.
    annotations
        Tables with a column of sample or donor ids; what the matrix holds itself comes first.
    min_overlap
        Share of the model's genes that the matrix must have.

    Raises
    ------
    DataError
        The matrix or a table cannot be used; the message says why.
    """
    keep = wanted_genes(model.gene_ids, model.gene_names)
    with open_matrix(path, keep_gene=keep, unit=unit, orientation=orientation, layer=layer) as matrix:
        data = model_input(model, matrix, impute=False, min_overlap=min_overlap)
        obs, report = annotate(matrix.sample_ids, annotations, own=matrix.obs)
        present_g = data.present_g
        x_np = np.empty((len(data), int(present_g.sum())), dtype=np.float32)
        for rows, x_ng in data.blocks(BATCH):
            x_np[rows] = model.scaler.apply_(np.ascontiguousarray(x_ng, dtype=np.float32).copy())[
                :, present_g
            ]
    return OtherMatrix(x_np, present_g, obs, {**data.report, "annotations": report})


def complete_labels(obs: pd.DataFrame) -> pd.DataFrame:
    """Annotations with a ``tissue`` column, and every sample of unknown donor a donor of its own."""
    obs = obs.copy()
    if "tissue" not in obs:
        obs["tissue"] = pd.Series([None] * len(obs), index=obs.index, dtype=object)
    own = pd.Series(obs.index.astype(str), index=obs.index)
    donor = obs["donor"].astype(object) if "donor" in obs else own
    obs["donor"] = donor.where(donor.notna(), own)
    return obs


def warn_about_training_donors(obs: pd.DataFrame, train_obs: pd.DataFrame, model_tissues: set[str]) -> int:
    """Warn of samples that the model was trained on, and of tissues that it cannot know; count the former."""
    known = obs.index.astype(str).isin(train_obs.index.astype(str))
    donors = set(train_obs["donor"].dropna().astype(str))
    seen = known | obs["donor"].astype(str).isin(donors).to_numpy()
    if seen.any():
        log.warning(
            "%d of %d samples are of donors that the model was trained on: no figure here is of held-out donors",
            seen.sum(), len(seen),
        )  # fmt: skip
    tissues = set(obs["tissue"].dropna().astype(str))
    if tissues and not tissues & model_tissues:
        log.warning(
            "none of the tissues (%s, ...) is one that the model was trained on (%s, ...): tissue accuracies are null",
            ", ".join(sorted(tissues)[:3]), ", ".join(sorted(model_tissues)[:3]),
        )  # fmt: skip
    return int(seen.sum())


def evaluate_matrix(
    run: Path, model: TrainedModel, external: OtherMatrix, folder: Path, *, seed: int = 0
) -> Evaluation:
    """Evaluate a run on another matrix, in the same way as on its held-out donors, and write it to a folder.

    Genes that the matrix does not have are hidden from the model and from the baselines, and none is asked for;
    intervals and verdicts are then taken anew from the validation donors, as they look without these genes. What needs tissues or donors that it does not have is null in the metrics; a sample without a donor is a donor of
    its own.

    Parameters
    ----------
    run, model
        A finished training run, whose data is still there, and its model.
    external
        The matrix, aligned.
    folder
        Where to write tables, metrics and ``alignment.json``.
    seed
        As for `evaluate`.
    """
    parts, _ = open_splits(run, model)
    train_obs = parts["train"][1]
    tissues = set(train_obs["tissue"].dropna().astype(str))
    obs = complete_labels(external.obs)
    known = warn_about_training_donors(obs, train_obs, tissues)
    if external.present_g.all():
        reference = Calibration.load_or_fit(run, model, parts)
    else:
        ours = on_present_genes(model, external.present_g)
        assert isinstance(ours, Embedder)
        x_valid_ng, valid_obs = parts["val"]
        reference = Calibration.fit_splits(
            ours, parts["train"], (x_valid_ng[:, external.present_g], valid_obs)
        )
    result = evaluate(
        model,
        parts["train"],
        (external.x_np, obs),
        pca=run_pca(run, parts["train"][0], model.vae.latent_dim, seed=seed),
        gene_sets={},
        reference=reference,
        present_g=external.present_g,
        seed=seed,
    )
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
        "genes_present": float(external.present_g.mean()),
    }
    write_json(folder / "alignment.json", external.report)
    write_evaluation(folder, result)
    return result
