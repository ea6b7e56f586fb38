"""Data of the report of a run.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions, ``k`` neighbours.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.evaluation.leakage import audit
from gtex_vae.analysis.evaluation.run_predictions import run_predictions
from gtex_vae.analysis.evaluation.run_samples import read_samples, run_pca
from gtex_vae.analysis.genes.embedding import DECODER_LOADINGS, decoder_jacobian, model_embeddings
from gtex_vae.analysis.genes.embedding_file import (
    STEM,
    choose,
    genes_table,
    read_gene_embeddings,
    write_gene_embeddings,
)
from gtex_vae.analysis.genes.neighbours import cosine_neighbours
from gtex_vae.analysis.metrics.bootstrap import Interval
from gtex_vae.analysis.metrics.tissue import knn_predict, labelled, several_classes
from gtex_vae.analysis.report import projections
from gtex_vae.analysis.report.comparisons import Intervals
from gtex_vae.analysis.report.evaluated_tables import read_evaluated
from gtex_vae.data.rows import LazyRows
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.pca import PCA

NEIGHBOURS = 10
CURVES = ("train/loss", "val/loss", "val/r2", "val/imputation_r2_20", "val/kl_nats", "train/beta")


@dataclass
class ReportData:
    """Result of `collect_report_data`.

    Attributes
    ----------
    run
        Directory of the run.
    unit
        Unit of expression.
    obs
        Annotations of all samples, with ``split``.
    maps
        ``PCA``, ``UMAP``, ``t-SNE`` to coordinates, shape (n, 2).
    genes, tissues
        Tables of `by_gene_and_tissue`; genes are indexed by id and have a ``gene_name``.
    kl_d
        KL of each latent dimension on held-out samples, in nats and descending order.
    curves
        Tag to steps and values.
    confusion
        Held-out samples by true (rows) and predicted tissue; empty without tissues.
    gene_embedding
        Name of the gene embedding that defines neighbours.
    neighbours_gk, cosine_gk
        Positions of the most similar genes, and their cosines.
    checks, pairs
        Leakage; see `audit`.
    metrics, intervals
        Read from the files of evaluate.
    record
        Content of ``provenance.json``.
    evaluated
        All tables of evaluate, by file stem.
    """

    run: Path
    unit: str
    obs: pd.DataFrame
    maps: dict[str, NDArray[np.float32]]
    genes: pd.DataFrame
    tissues: pd.DataFrame
    kl_d: NDArray[np.float64]
    curves: dict[str, tuple[list[int], list[float]]]
    confusion: pd.DataFrame
    gene_embedding: str
    neighbours_gk: NDArray[np.intp]
    cosine_gk: NDArray[np.float32]
    checks: pd.DataFrame
    pairs: pd.DataFrame
    metrics: dict[str, float | None]
    intervals: Intervals
    record: dict[str, Any]
    evaluated: dict[str, pd.DataFrame] = field(default_factory=dict)


def collect_report_data(
    run: Path,
    model: TrainedModel,
    *,
    results: Path | None = None,
    gene_embedding: str = DECODER_LOADINGS,
    seed: int = 0,
) -> ReportData:
    """Read and compute the data of the report of an evaluated run.

    Parameters
    ----------
    run, model
        A finished run and its model.
    results
        Folder of ``evaluation`` and the gene embeddings; None for the run.
    gene_embedding
        Name of the embedding in ``gene_embeddings.h5ad`` that defines neighbours.
    seed
        Seed of maps, hidden entries and PCA.
    """
    from tqdm import tqdm

    results = run if results is None else results
    with tqdm(total=7, desc="analyzing", unit="step", leave=False, disable=None) as bar:

        def begin(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        begin("leakage")
        adata = read_samples(run, model)
        checks, pairs = audit(adata.X, adata.obs, model.scaler)
        model.scaler.apply_(adata.X)
        obs, x_ng = adata.obs, adata.X
        train, test = ((obs["split"] == split).to_numpy() for split in ("train", "test"))
        begin("predictions")
        predicted = run_predictions(
            results / "evaluation", model, adata, partial(_pca, run, x_ng, train, model, seed), seed=seed
        )
        z_nd = predicted.z_nd
        maps = {"PCA": projections.pca_map(z_nd)}
        begin("UMAP")
        maps["UMAP"] = projections.umap_map(z_nd, seed=seed)
        begin("t-SNE")
        maps["t-SNE"] = projections.tsne_map(z_nd, seed=seed)
        begin("genes and tissues")
        genes, tissues = predicted.genes, predicted.tissues
        genes.index = pd.Index(model.gene_ids, name="gene_id")
        genes.insert(0, "gene_name", model.gene_names)
        begin("gene neighbours")
        if not (results / f"{STEM}.h5ad").exists():  # evaluated by an earlier version
            jacobian_gd = decoder_jacobian(model.vae, z_nd[train], seed=seed)
            write_gene_embeddings(
                results, model_embeddings(model.vae, jacobian_gd, z_nd[train]), genes_table(model)
            )
        embedding_gd = choose(read_gene_embeddings(results), gene_embedding)
        neighbours_gk, cosine_gk = cosine_neighbours(embedding_gd, NEIGHBOURS)
        begin("latent dimensions")
        return ReportData(
            run=run,
            unit=model.unit,
            obs=obs,
            maps=maps,
            genes=genes,
            tissues=tissues,
            kl_d=np.sort(predicted.kl_d)[::-1],
            curves=read_curves(run / "tensorboard"),
            confusion=_confusion(z_nd, obs["tissue"], train, test),
            gene_embedding=gene_embedding,
            neighbours_gk=neighbours_gk,
            cosine_gk=cosine_gk,
            checks=checks,
            pairs=pairs,
            metrics=json.loads((results / "evaluation" / "metrics.json").read_text(encoding="utf-8")),
            intervals=read_intervals(results / "evaluation" / "intervals.csv"),
            record=json.loads((run / "provenance.json").read_text(encoding="utf-8")),
            evaluated=read_evaluated(results / "evaluation"),
        )


def read_intervals(path: Path) -> Intervals:
    """Read the intervals of evaluate."""
    table = pd.read_csv(path, dtype={"metric": str, "minus": str}).fillna({"minus": ""})
    keys = zip(table["metric"], table["minus"], strict=True)
    bounds = table[["value", "low", "high"]].to_numpy(dtype=float)
    return {key: Interval(*map(float, row)) for key, row in zip(keys, bounds, strict=True)}


def read_curves(folder: Path, tags: Sequence[str] = CURVES) -> dict[str, tuple[list[int], list[float]]]:
    """Read training curves from event files; empty if the run was not logged."""
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    if not list(folder.glob("events*")):
        return {}
    logging.getLogger("tensorboard").setLevel(logging.WARNING)  # it logs every file that it opens
    events = EventAccumulator(str(folder), size_guidance={"scalars": 2000}).Reload()
    logged = set(events.Tags()["scalars"])
    found = {tag: events.Scalars(tag) for tag in tags if tag in logged}
    return {tag: ([p.step for p in points], [p.value for p in points]) for tag, points in found.items()}


def _pca(
    run: Path, x_ng: NDArray[np.float32], train: NDArray[np.bool_], model: TrainedModel, seed: int
) -> PCA:
    """Load the PCA of the training samples, or fit it."""
    rows = np.flatnonzero(train)
    x_train_ng = LazyRows((len(rows), x_ng.shape[1]), lambda part: x_ng[rows[part]])
    return run_pca(run, x_train_ng, model.vae.latent_dim, seed=seed)


def _confusion(
    z_nd: NDArray[np.float32], tissue: pd.Series, train: NDArray[np.bool_], test: NDArray[np.bool_]
) -> pd.DataFrame:
    """Count held-out samples by tissue and by the vote of their nearest training samples; empty below two tissues."""
    train, test = train & labelled(tissue), test & labelled(tissue)
    if not several_classes(tissue[train]) or not test.any():
        return pd.DataFrame()
    predicted = knn_predict(z_nd[train], z_nd[test], tissue[train])
    truth = tissue[test].astype(str).to_numpy()
    names = sorted({*truth, *predicted})
    table = pd.crosstab(pd.Series(truth, name="tissue"), pd.Series(predicted, name="predicted"))
    return table.reindex(index=names, columns=names, fill_value=0)
