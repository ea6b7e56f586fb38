"""Runs whose observations are genes: their embeddings, and how they do on genes held out.

Shapes: ``g`` genes, ``t`` training samples, ``d`` latent dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from gtex_vae.analysis.baselines import PCA, Mean
from gtex_vae.analysis.evaluation.evaluate import Evaluation, split_parts, write_evaluation
from gtex_vae.analysis.evaluation.rate import rate_metrics
from gtex_vae.analysis.evaluation.run_samples import open_samples
from gtex_vae.analysis.evaluation.score import Reconstructor, embed_in_batches, examine
from gtex_vae.analysis.genes.benchmark import gene_benchmark
from gtex_vae.analysis.genes.embedding import GENE_WISE, gene_wise_embedding
from gtex_vae.analysis.genes.embedding_file import write_gene_embeddings
from gtex_vae.analysis.genes.evaluation import BASELINES
from gtex_vae.analysis.genes.gene_sets import collections_for
from gtex_vae.analysis.metrics.interval_table import interval_table
from gtex_vae.data.gene_axis import of_genes
from gtex_vae.errors import RunError
from gtex_vae.inference.trained_model import TrainedModel


def read_gene_wise(gene_run: Path, run: Path, gene_ids: Sequence[str]) -> NDArray[np.float32]:
    """The embedding of a run of genes, for judging it beside those of a run of samples.

    Parameters
    ----------
    gene_run
        Run with ``data.axis=genes``.
    run
        Run of samples.
    gene_ids
        Its genes, in order.

    Returns
    -------
    ndarray of float32
        Shape (g, d).

    Raises
    ------
    RunError
        It is none of genes, lacks some, or was trained on samples that the other run holds out.
    """
    if not of_genes(gene_run):
        raise RunError(f"gene_run={gene_run} was not trained with data.axis=genes")
    model = TrainedModel.load(gene_run / "model")
    genes = open_samples(gene_run, model)
    place = pd.Index(genes.obs_names).get_indexer(list(gene_ids))
    if (place < 0).any():
        raise RunError(f"gene_run={gene_run} lacks {int((place < 0).sum())} of the genes of {run}")
    split = pd.read_csv(run / "splits.csv", dtype=str).set_index("sample")["split"]
    held_out = set(split.index[split == "test"]) & set(genes.var_names)
    if held_out:
        raise RunError(
            f"gene_run={gene_run} was trained on {len(held_out)} samples that {run} holds out: train it with the same "
            "data.split_seed, data.val and data.test"
        )
    return gene_wise_embedding(embed_in_batches(model, genes.X))[place]


def evaluate_gene_run(
    run: Path,
    model: TrainedModel,
    genesets: Sequence[str] = (),
    *,
    supervised_terms: int = 0,
    seed: int = 0,
) -> Evaluation:
    """Evaluate a run of genes on its held-out genes, and write ``evaluation/`` and the gene embeddings into it.

    Parameters
    ----------
    run, model, genesets, supervised_terms, seed
        As for `gtex_vae.analysis.evaluation.evaluate.evaluate_run`; the run is one with ``data.axis=genes``.

    Returns
    -------
    Evaluation
        Reconstruction and imputation of held-out genes beside a PCA of the training genes, intervals over genes; and gene
        function of the embedding of all genes, beside the loadings of a PCA of the samples and the raw profiles.
    """
    genes = open_samples(run, model)
    parts = split_parts(genes)
    (x_train_gt, train_obs), (x_test_gt, test_obs) = parts["train"], parts["test"]
    methods: dict[str, Reconstructor] = {
        "": model,
        "baseline/pca/": PCA.fit(x_train_gt, model.vae.latent_dim, seed=seed),
        "baseline/mean/": Mean(),
    }
    scores = examine(methods, x_train_gt, x_test_gt, train_obs, test_obs, seed=seed)
    result = Evaluation(metrics=scores.metrics | rate_metrics(model.vae, x_test_gt, seed=seed))
    result.tables["intervals"] = interval_table(scores.samples, test_obs["donor"], seed)
    embedding_gd = gene_wise_embedding(embed_in_batches(model, genes.X))
    gene_sets = collections_for(genes.T, genesets)
    if gene_sets:
        profiles_gt = model.scaler.inverse(torch.from_numpy(genes.X)).numpy()
        judged = gene_benchmark(
            {
                GENE_WISE: embedding_gd,
                "pca": PCA.fit(profiles_gt.T, model.vae.latent_dim, seed=seed).components_dg.T,
                "expression": profiles_gt,
            },
            gene_sets,
            genes.obs["level"].to_numpy(),
            prefixes={GENE_WISE: "", **BASELINES},
            supervised_terms=supervised_terms,
            seed=seed,
        )
        result.metrics |= judged.metrics
        result.tables |= judged.tables
    write_gene_embeddings(run, {GENE_WISE: embedding_gd}, genes.obs[["gene_name", "level", "split"]])
    write_evaluation(run / "evaluation", result)
    return result
