"""Genes as observations: each gene is a row, the training samples are its measurements.

Shapes: ``n`` samples, ``g`` genes, ``t`` training samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from gtex_vae.data.splits import split_samples
from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import ConfigError, RunError
from gtex_vae.paths import write_beside
from gtex_vae.runs import directory as runs

if TYPE_CHECKING:
    from anndata import AnnData

Axis = Literal["samples", "genes"]

UNIT = "standardized over the training samples"
SPLITS = "gene_splits.csv"


def check_axis(axis: str, memory_gib: float | None, covariates: Sequence[str]) -> None:
    """Refuse what cannot be done.

    Raises
    ------
    ConfigError
        The axis is unknown, or genes are asked for of a matrix that may stay on disk, or with covariates.
    """
    if axis not in ("samples", "genes"):
        raise ConfigError(f"data.axis={axis} is neither samples nor genes")
    if axis == "genes" and memory_gib is not None:
        raise ConfigError("data.axis=genes needs the matrix in memory: set data.memory_gib=null")
    if axis == "genes" and covariates:
        raise ConfigError(f"data.covariates={list(covariates)} are of samples: data.axis=genes takes none")


def refuse_comparisons(settings: Mapping[str, Any]) -> None:
    """Refuse to compare the tissues or donors of what has neither.

    Parameters
    ----------
    settings
        The root keys of ``conf/train.yaml``.

    Raises
    ------
    ConfigError
        Genes as observations together with a contrastive term or an alignment.
    """
    compared = [key for key in ("contrastive", "alignment") if settings.get(key) is not None]
    if compared and settings["data"].get("axis") == "genes":
        raise ConfigError(
            f"data.axis=genes: genes have no tissue and no donor that {compared[0]} could compare"
        )


def of_genes(run_dir: Path) -> bool:
    """Whether the observations of a run are genes."""
    return bool(runs.read_config(run_dir).get("data", {}).get("axis") == "genes")


def refuse_gene_run(run_dir: Path, what: str) -> None:
    """Refuse a run of genes where samples are needed.

    Raises
    ------
    RunError
        The observations of the run are genes.
    """
    if of_genes(run_dir):
        raise RunError(f"run={run_dir} was trained with data.axis=genes: {what}")


def genes_as_samples(adata: AnnData, standardize: Mapping[str, Any]) -> AnnData:
    """Turn the training samples' matrix around, every gene standardized over them.

    Validation and held-out samples are left out, so that nothing learnt from the result knows of their donors.

    Parameters
    ----------
    adata
        Samples x genes, not standardized, with ``obs["split"]``.
    standardize
        Arguments of `Standardizer`.

    Returns
    -------
    AnnData
        g x t. ``obs``: what is known of the genes, with their mean expression (``level``); a ``donor`` of its own for each, so that genes are split one by
        one, and no ``tissue``. ``var``: the training samples.
    """
    import anndata

    train = np.flatnonzero(adata.obs["split"].to_numpy() == "train")
    x_tg = np.ascontiguousarray(adata.X[train], dtype=np.float32)
    scaler = Standardizer(adata.n_vars, **standardize).fit(x_tg)
    scaler.apply_(x_tg)
    obs = adata.var.copy()
    if "gene_name" not in obs:
        obs["gene_name"] = obs.index.astype(str)
    obs["level"] = scaler.center_g.numpy()
    obs["donor"] = obs.index.astype(str)
    obs["tissue"] = pd.Series([None] * len(obs), index=obs.index, dtype=object)
    return anndata.AnnData(
        np.ascontiguousarray(x_tg.T),
        obs=obs,
        var=pd.DataFrame(index=adata.obs_names[train]),
        uns={"expression": {"unit": UNIT}},
    )


def split_genes(genes: AnnData, *, val: float, test: float, seed: int) -> np.ndarray:
    """``train``, ``val`` or ``test`` of each gene, at random."""
    return split_samples(genes.obs["donor"], genes.obs["tissue"], val=val, test=test, seed=seed, by="sample")


def write_gene_splits(folder: Path, genes: AnnData) -> None:
    """Write gene and split of every gene as ``gene_splits.csv``, in the columns of ``splits.csv``."""
    table = pd.DataFrame({"sample": genes.obs_names, "split": genes.obs["split"]})
    with write_beside(folder / SPLITS) as temporary:
        table.to_csv(temporary, index=False)
