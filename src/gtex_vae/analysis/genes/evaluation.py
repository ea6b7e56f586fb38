"""Gene metrics of a run: its gene embeddings, the baselines, and gene sets along latent dimensions.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.genes.benchmark import gene_benchmark
from gtex_vae.analysis.genes.embedding import DECODER_LOADINGS, decoder_jacobian, model_embeddings
from gtex_vae.analysis.genes.enrichment import enrichment_table
from gtex_vae.analysis.genes.function import Members
from gtex_vae.analysis.metrics.latent import ACTIVE_VARIANCE
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.pca import PCA

DIMENSIONS = 128  # at most; those of largest variance
BASELINES = {"pca": "baseline/pca/", "expression": "baseline/expression/"}
SIGNIFICANT = 0.05


@dataclass
class GeneEvaluation:
    """Result of `evaluate_genes`.

    Attributes
    ----------
    embeddings
        Name to embedding, shape (g, d), without the baselines.
    metrics, tables
        Result of `gene_benchmark`, the metrics ``gene/enriched_dimensions/<collection>`` and the table ``enrichment``;
        empty without gene sets.
    """

    embeddings: dict[str, NDArray[np.float32]]
    metrics: dict[str, float]
    tables: dict[str, pd.DataFrame]


def evaluate_genes(
    model: TrainedModel,
    z_train_nd: NDArray[np.float32],
    pca: PCA,
    x_train_ng: NDArray[np.float32],
    collections: Mapping[str, Members],
    *,
    supervised_terms: int = 0,
    seed: int = 0,
) -> GeneEvaluation:
    """Evaluate a model's gene embeddings, and describe its latent dimensions by gene sets.

    Parameters
    ----------
    model
        Trained model.
    z_train_nd
        Embedded training samples.
    pca
        PCA of the training samples, with as many components as the model has latent dimensions.
    x_train_ng
        Standardized training samples.
    collections
        Name of a collection to the gene indices of its sets; may be empty.
    supervised_terms, seed
        See `gene_benchmark`.
    """
    jacobian_gd = decoder_jacobian(model.vae, z_train_nd, seed=seed)
    embeddings = model_embeddings(model.vae, jacobian_gd, z_train_nd)
    result = GeneEvaluation(embeddings, {}, {})
    if not collections:
        return result
    level_g = model.scaler.center_g.cpu().numpy()
    compared = gene_benchmark(
        {**embeddings, "pca": pca.components_dg.T, "expression": x_train_ng.T},
        collections,
        level_g,
        prefixes={**prefixes(embeddings, DECODER_LOADINGS), **BASELINES},
        supervised_terms=supervised_terms,
        seed=seed,
    )
    result.metrics |= compared.metrics
    result.tables |= compared.tables
    sd_d = z_train_nd.std(axis=0)
    active = np.flatnonzero(sd_d**2 > ACTIVE_VARIANCE)
    shown = np.sort(active[np.argsort(-sd_d[active], kind="stable")[:DIMENSIONS]])
    table = enrichment_table(jacobian_gd[:, shown] * sd_d[shown], collections, level_g, shown)
    found = table[table["q"] < SIGNIFICANT].groupby("collection")["dimension"].nunique()
    for collection in collections:
        result.metrics[f"gene/enriched_dimensions/{collection}"] = int(found.get(collection, 0))
    result.tables["enrichment"] = table.set_index(["collection", "dimension"])
    return result


def prefixes(embeddings: Mapping[str, NDArray], own: str) -> dict[str, str]:
    """Return the prefix of each embedding's metric keys; empty for the run's own embedding.

    >>> prefixes({"decoder_loadings": ..., "output_weights": ...}, "decoder_loadings")
    {'decoder_loadings': '', 'output_weights': 'embedding/output_weights/'}
    """
    return {name: "" if name == own else f"embedding/{name}/" for name in embeddings}
