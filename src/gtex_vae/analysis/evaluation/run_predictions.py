"""Predictions of a run for its own samples: evaluate writes them, analyze reads them.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

import json
import logging
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.evaluation.by_gene_and_tissue import by_gene_and_tissue
from gtex_vae.analysis.metrics.latent import kl_per_dimension
from gtex_vae.files import write_beside
from gtex_vae.inference.predictors import embed_in_batches, posterior_in_batches
from gtex_vae.inference.trained_model import TrainedModel

if TYPE_CHECKING:
    from anndata import AnnData

    from gtex_vae.models.pca import PCA

log = logging.getLogger(__name__)

FILE = "predictions.npz"


@dataclass(frozen=True)
class RunPredictions:
    """Predictions of a run's model for its samples.

    Attributes
    ----------
    z_nd
        Embeddings of all samples, in the order of the processed data.
    kl_d
        Mean KL of each latent dimension on held-out samples, nats.
    genes, tissues
        Tables of `by_gene_and_tissue` of held-out samples, for ``model`` and ``pca``.
    """

    z_nd: NDArray[np.float32]
    kl_d: NDArray[np.float64]
    genes: pd.DataFrame
    tissues: pd.DataFrame

    def save(self, folder: Path, samples: Sequence[str], key: dict[str, Any]) -> None:
        """Write ``predictions.npz``.

        Parameters
        ----------
        folder
            The run's ``evaluation`` folder.
        samples
            Sample ids.
        key
            Model and settings of the predictions; `load` compares it.
        """
        arrays: dict[str, Any] = {
            **{f"genes.{name}": column.to_numpy() for name, column in self.genes.items()},
            **{f"tissues.{name}": column.to_numpy() for name, column in self.tissues.items()},
            "tissue_names": self.tissues.index.to_numpy(dtype=str),
            "samples": np.asarray(samples, dtype=str),
        }
        with write_beside(folder / FILE) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, z_nd=self.z_nd, kl_d=self.kl_d, key=json.dumps(key), **arrays)

    @classmethod
    def load(cls, folder: Path, samples: Sequence[str], key: dict[str, Any]) -> RunPredictions | None:
        """Read the file of `save`; None if it is missing, or is of other samples, another model or other settings."""
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            with np.load(path) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, zipfile.BadZipFile):
            return None
        if json.loads(str(arrays["key"])) != key or arrays["samples"].tolist() != list(samples):
            return None
        tables = {
            kind: pd.DataFrame({
                name.removeprefix(kind): array for name, array in arrays.items() if name.startswith(kind)
            })
            for kind in ("genes.", "tissues.")
        }  # fmt: skip
        tissues = tables["tissues."].set_index(pd.Index(arrays["tissue_names"], name="tissue").astype(str))
        return cls(arrays["z_nd"], arrays["kl_d"], tables["genes."], tissues)


def predictions_key(model: TrainedModel, seed: int) -> dict[str, Any]:
    """Model and settings that predictions depend on."""
    return {"model_sha256": model.digest, "seed": seed}


def latent_kl(model: TrainedModel, x_ng: NDArray[np.float32], obs: pd.DataFrame) -> NDArray[np.float64]:
    """Mean KL of each latent dimension over samples, nats."""
    return kl_per_dimension(*posterior_in_batches(model.with_covariates(obs), x_ng))


def run_predictions(
    folder: Path, model: TrainedModel, adata: AnnData, fit_pca: Callable[[], PCA], *, seed: int = 0
) -> RunPredictions:
    """Read the predictions of a run; predict, and write them, if they are missing or out of date.

    Parameters
    ----------
    folder
        The ``evaluation`` folder.
    model
        Trained model of the run.
    adata
        Samples of `gtex_vae.analysis.evaluation.run_samples.open_samples`.
    fit_pca
        Returns PCA of the training samples with as many components as the model has latent dimensions.
    seed
        Seed of the hidden entries.
    """
    key, samples = predictions_key(model, seed), adata.obs_names.tolist()
    found = RunPredictions.load(folder, samples, key)
    if found is not None:
        return found
    log.info("predicting again: %s is missing, or of another model, seed or data", folder / FILE)
    test = (adata.obs["split"] == "test").to_numpy()
    x_ng, obs = adata.X[test], adata.obs[test]
    methods = {"model": model.with_covariates(obs), "pca": fit_pca()}
    made = RunPredictions(
        embed_in_batches(model.with_covariates(adata.obs), adata.X),
        latent_kl(model, x_ng, obs),
        *by_gene_and_tissue(methods, x_ng, obs["tissue"], seed=seed),
    )
    if os.access(folder, os.W_OK):
        made.save(folder, samples, key)
    return made
