"""Evaluation of a run on its own held-out donors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gtex_vae.analysis.evaluation.evaluate import Evaluation, evaluate, write_evaluation
from gtex_vae.analysis.evaluation.latent_space import known_factors
from gtex_vae.analysis.evaluation.run_predictions import RunPredictions, latent_kl, predictions_key
from gtex_vae.analysis.evaluation.run_samples import open_splits, run_pca
from gtex_vae.analysis.genes.embedding_file import genes_table, write_gene_embeddings
from gtex_vae.analysis.genes.gene_sets import collections_for
from gtex_vae.analysis.report.model_card import write_card
from gtex_vae.analysis.report.tensorboard import show_metrics
from gtex_vae.inference.calibration import Calibration, Splits
from gtex_vae.inference.predictors import embed_in_batches
from gtex_vae.inference.trained_model import TrainedModel

if TYPE_CHECKING:
    from anndata import AnnData


def evaluate_run(
    run: Path,
    model: TrainedModel,
    genesets: Sequence[str] = (),
    *,
    results: Path | None = None,
    supervised_terms: int = 0,
    seed: int = 0,
) -> Evaluation:
    """Evaluate a run on its own held-out donors and write ``evaluation/`` and the gene embeddings.

    Parameters
    ----------
    run, model
        A finished training run and its model.
    genesets
        GMT files.
    results
        Where to write; None for the run, whose TensorBoard log and model card are then updated too.
    supervised_terms, seed
        As for `evaluate`.
    """
    splits, adata = open_splits(run, model)
    gene_sets = collections_for(adata, genesets)
    factors = known_factors(adata[(adata.obs["split"] == "test").to_numpy()])
    result = evaluate(
        model,
        splits["train"],
        splits["test"],
        pca=run_pca(run, splits["train"][0], model.vae.latent_dim, seed=seed),
        gene_sets=gene_sets,
        calibration=Calibration.load_or_fit(run, model, splits),
        factors=factors,
        supervised_terms=supervised_terms,
        seed=seed,
    )
    folder = run if results is None else results
    write_gene_embeddings(folder, result.gene_embeddings, genes_table(model))
    _write_predictions(folder, model, splits, adata, result, seed=seed)
    write_evaluation(folder / "evaluation", result)
    if folder == run:
        show_metrics(run)
        if os.access(run / "model", os.W_OK):
            write_card(run)
    return result


def _write_predictions(
    folder: Path, model: TrainedModel, splits: Splits, adata: AnnData, result: Evaluation, *, seed: int
) -> None:
    """Write the predictions that analyze reads; see `RunPredictions`."""
    (x_valid_ng, valid_obs), (x_test_ng, test_obs) = splits["val"], splits["test"]
    embeddings = {**result.embeddings, "val": embed_in_batches(model.with_covariates(valid_obs), x_valid_ng)}
    z_nd = np.zeros((adata.n_obs, model.vae.latent_dim), dtype=np.float32)
    for split, z_of_split_nd in embeddings.items():
        z_nd[(adata.obs["split"] == split).to_numpy()] = z_of_split_nd
    assert result.errors is not None
    RunPredictions(
        z_nd, latent_kl(model, x_test_ng, test_obs), *result.errors.tables(test_obs["tissue"])
    ).save(folder / "evaluation", adata.obs_names.tolist(), predictions_key(model, seed))
