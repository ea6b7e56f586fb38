"""The samples of a run, standardized and split as the run had them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from gtex_vae import runs
from gtex_vae.data import processed
from gtex_vae.data.splits import SPLITS, read_splits
from gtex_vae.errors import DataError, RunError
from gtex_vae.models.trained import TrainedModel

if TYPE_CHECKING:
    from anndata import AnnData


def read_samples(run_dir: Path, model: TrainedModel) -> AnnData:
    """Read the run's processed AnnData and recall its split.

    Parameters
    ----------
    run_dir
        A finished training run.
    model
        Its model.

    Returns
    -------
    AnnData
        X not standardized, ``obs["split"]`` as in the run's ``splits.csv``.

    Raises
    ------
    RunError
        The data is gone, or no longer what the run was trained on.
    """
    data = runs.read_config(run_dir)["data"]
    path = processed.choose(data["path"], data["processed"])
    try:
        adata = processed.read(path)
    except DataError as error:
        raise RunError(f"the data of {run_dir} cannot be read: {error}") from error
    if list(adata.var_names) != model.gene_ids:
        raise RunError(f"{path} has other genes than the model of {run_dir}: it was made anew since")
    split = read_splits(run_dir / "splits.csv", list(adata.obs_names))
    adata.obs["split"] = pd.Categorical(split, categories=SPLITS)
    return adata


def open_samples(run_dir: Path, model: TrainedModel) -> AnnData:
    """The samples of `read_samples`, standardized with the model's scaler."""
    adata = read_samples(run_dir, model)
    model.scaler.apply_(adata.X)
    return adata
