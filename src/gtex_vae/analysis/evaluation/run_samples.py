"""Samples of a run with its standardization and splits."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.data.loading.disk_matrix import open_larger_than, subset
from gtex_vae.data.preprocess import processed
from gtex_vae.data.preprocess.fingerprint import different_settings, fingerprint, stored_fingerprint
from gtex_vae.data.rows import RowMatrix
from gtex_vae.data.splits import SPLITS, fill_donors, read_splits
from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import ConfigError, DataError, MissingDataError, RunError
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.pca import PCA
from gtex_vae.runs import data_paths, directory

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)


def read_samples(run_dir: Path, model: TrainedModel) -> AnnData:
    """Read the processed AnnData of a run, with its split.

    Parameters
    ----------
    run_dir
        A finished training run.
    model
        Its model.

    Returns
    -------
    AnnData
        X is not standardized; ``obs["split"]`` is that of the run's ``splits.csv``. With ``data.memory_gib``, only the
        samples of each split that fit into memory, the same ones as at the end of training.

    Raises
    ------
    MissingDataError
        The data cannot be read.
    RunError
        The data has changed since training.
    """
    data = data_paths.locate(run_dir, directory.read_config(run_dir)["data"])
    path = processed.choose(data["path"], data["processed"])
    memory_gib: Any = data.get("memory_gib")
    try:
        path = _made_as_the_run_had_it(path, data)
        disk = open_larger_than(path, memory_gib)
        adata = processed.read(path) if disk is None else disk.adata
    except (ConfigError, DataError) as error:
        raise MissingDataError(
            f"the data of {run_dir} cannot be read: {error}; data.processed=FILE says where it is now"
        ) from error
    adata.obs["donor"] = fill_donors(adata.obs["donor"])
    split = read_splits(run_dir / "splits.csv", list(adata.obs_names))
    adata.obs["split"] = pd.Categorical(split, categories=SPLITS)
    if list(adata.var_names) != model.gene_ids:
        raise RunError(
            f"{path} has other genes than the model of {run_dir}: it was changed after training; give the original file with data.processed=FILE"
        )
    if disk is None:
        own = Standardizer(adata.n_vars, **model.scaler.settings).fit(
            adata.X, np.flatnonzero(adata.obs["split"] == "train")
        )
        if not own.agrees_with(model.scaler.center_g, model.scaler.scale_g):
            raise RunError(
                f"{path}: its training samples have other values than those that {run_dir} was trained on: it was changed "
                "after training; give the original file with data.processed=FILE"
            )
        return adata
    parts = [subset(np.flatnonzero(split == part), adata.n_vars, memory_gib) for part in SPLITS]
    rows = np.sort(np.concatenate(parts))
    log.info("%d of %d samples: data.memory_gib=%g", len(rows), adata.n_obs, memory_gib)
    adata = adata[rows].copy()
    adata.X = disk[rows]
    return adata


def run_pca(run: Path, x_train_ng: RowMatrix, n_components: int, *, seed: int = 0) -> PCA:
    """Load the PCA that training saved, or fit it to the training samples if the run has none.

    Parameters
    ----------
    run
        A finished training run.
    x_train_ng
        Its standardized training samples.
    n_components
        Latent dimensions of the model.
    seed
        Seed of the fit.
    """
    path = run / "model" / PCA.FILE
    return PCA.load(path) if path.is_file() else PCA.fit(x_train_ng, n_components, seed=seed)


def _made_as_the_run_had_it(path: Path, data: Mapping[str, Any]) -> Path:
    """Make the processed file if it is missing, or a second one if the first was made again with other settings."""
    prepare = data["prepare"]
    if prepare is None or str(path) == data.get("path"):  # a file that preprocess did not make for this run
        return path
    if path.exists():
        if stored_fingerprint(path) is None or not different_settings(path, prepare):
            return path
        log.info(
            "%s was made with other settings since (%s)", path, ", ".join(different_settings(path, prepare))
        )
        path = path.with_name(f"{path.stem}_{fingerprint(prepare)[:8]}{path.suffix}")
    if not path.exists():
        log.info("making %s as the run had it", path)
    processed.make_processed(path, prepare, in_chunks=data.get("memory_gib") is not None)
    return path


def open_samples(run_dir: Path, model: TrainedModel) -> AnnData:
    """Read the samples of a run and standardize them with the model's scaler; see `read_samples`."""
    adata = read_samples(run_dir, model)
    model.scaler.apply_(adata.X)
    return adata


def open_splits(
    run: Path, model: TrainedModel
) -> tuple[dict[str, tuple[NDArray[np.float32], pd.DataFrame]], AnnData]:
    """Read standardized expression and annotations of each split of a run, and its AnnData without expression."""
    adata = open_samples(run, model)
    splits = split_samples(adata)
    # AnnData contains reference cycles: its matrix would be freed only at the next garbage collection
    adata.X = None
    return splits, adata


def split_samples(adata: AnnData) -> dict[str, tuple[NDArray[np.float32], pd.DataFrame]]:
    """Split samples into expression and annotations of each split."""
    split = adata.obs["split"].to_numpy()
    return {name: (adata.X[split == name], adata.obs[split == name]) for name in SPLITS}
