"""Evaluation of a run on its own held-out donors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gtex_vae.analysis.evaluation.evaluate import Evaluation, evaluate, write_evaluation
from gtex_vae.analysis.evaluation.latent_space import known_factors
from gtex_vae.analysis.evaluation.run_samples import open_splits
from gtex_vae.analysis.genes.embedding_file import genes_table, write_gene_embeddings
from gtex_vae.analysis.genes.gene_sets import collections_for
from gtex_vae.analysis.report.model_card import write_card
from gtex_vae.analysis.report.tensorboard import show_metrics
from gtex_vae.inference.calibration import Calibration
from gtex_vae.inference.trained_model import TrainedModel


def evaluate_run(
    run: Path,
    model: TrainedModel,
    genesets: Sequence[str] = (),
    *,
    supervised_terms: int = 0,
    seed: int = 0,
) -> Evaluation:
    """Evaluate a run on its own held-out donors and write ``evaluation/`` and the gene embeddings into it.

    Parameters
    ----------
    run, model
        A finished training run and its model.
    genesets
        GMT files.
    supervised_terms, seed
        As for `evaluate`.
    """
    parts, adata = open_splits(run, model)
    gene_sets = collections_for(adata, genesets)
    factors = known_factors(adata[(adata.obs["split"] == "test").to_numpy()])
    result = evaluate(
        model,
        parts["train"],
        parts["test"],
        gene_sets=gene_sets,
        reference=Calibration.load_or_fit(run, model, parts),
        factors=factors,
        supervised_terms=supervised_terms,
        seed=seed,
    )
    write_gene_embeddings(run, result.gene_embeddings, genes_table(model))
    write_evaluation(run / "evaluation", result)
    show_metrics(run)
    if os.access(run / "model", os.W_OK):
        write_card(run)
    return result
