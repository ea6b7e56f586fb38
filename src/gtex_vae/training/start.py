"""Start of a training: data, PCA, and a module that starts from the PCA.

Shapes: ``n`` samples, ``g`` genes, ``f`` features (genes, or their coordinates in a basis), ``k`` columns of the covariates'
design.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback, seed_everything
from torch import Tensor

from gtex_vae.config import build
from gtex_vae.data.counts import LENGTH, size_factors
from gtex_vae.data.datamodule import ExpressionDataModule
from gtex_vae.data.loading.standardized import BLOCK
from gtex_vae.data.rows import blocks_of
from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import ConfigError, RunError
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.conditioning import start_conditional
from gtex_vae.models.pca import PCA
from gtex_vae.nn.likelihood import Likelihood
from gtex_vae.runs import data_paths, directory
from gtex_vae.training.module import VAEModule
from gtex_vae.training.warm_start import load_weights

log = logging.getLogger(__name__)


def read_data(config: Mapping[str, Any], run_dir: Path) -> ExpressionDataModule:
    """Prepare, read and split the data, and write ``splits.csv`` and the paths of the data.

    Parameters
    ----------
    config
        Node ``data`` of the config.
    run_dir
        If it contains a checkpoint, the data must be the one that the checkpoint was trained on.
    """
    last = run_dir / directory.LAST
    located = data_paths.locate(run_dir, config) if last.exists() else config
    datamodule: ExpressionDataModule = build(located, under="gtex_vae.data")
    datamodule.prepare_data()
    datamodule.setup()
    if last.exists():
        refuse_other_data(last, datamodule.scaler)
    if directory.is_first_process():
        datamodule.write_splits(run_dir / "splits.csv")
        data_paths.store(run_dir, config)
    return datamodule


def refuse_other_data(last: Path, scaler: Standardizer) -> None:
    """Refuse to resume with other training samples: test donors of the checkpoint could become training donors.

    Parameters
    ----------
    last
        The checkpoint.
    scaler
        Fitted to the current training samples.

    Raises
    ------
    RunError
        The means or scales of the genes differ from those of the checkpoint, or it cannot be read.
    """
    advice = "set another hydra.run.dir, or overwrite=true to start again"
    try:
        state = torch.load(last, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    except (RuntimeError, UnpicklingError) as error:
        raise RunError(f"{last} cannot be read: {str(error).splitlines()[0]}; {advice}") from error
    if not scaler.agrees_with(state["scaler.center_g"], state["scaler.scale_g"]):
        raise RunError(
            f"{last} was trained on other samples, values or genes than the current data: {advice}"
        )


def fit_pca(datamodule: ExpressionDataModule, latent_dim: int, n_components: int | None) -> PCA:
    """Fit the PCA of the training samples that gives the initial weights, the basis and a baseline."""
    log.info("fitting a PCA to the training samples")
    return PCA.fit(datamodule.lazily("train"), latent_dim, basis=n_components)


def initial_module(
    settings: Mapping[str, Any],
    datamodule: ExpressionDataModule,
    pca: PCA,
    pretrained: TrainedModel | None = None,
) -> VAEModule:
    """Build the module with its initial weights.

    Parameters
    ----------
    settings
        Root keys of ``conf/train.yaml``.
    datamodule
        After setup.
    pca
        Of the training samples.
    pretrained
        Model whose weights replace the start from the PCA.
    """
    seed_everything(settings["seed"], workers=True, verbose=False)
    module = VAEModule(
        settings["model"]
        if pretrained is not None
        else with_components(settings["model"], len(pca.components_dg)),
        settings["objective"],
        settings["optimizer"],
        settings["learning_rate"],
        genes=datamodule.genes,
        standardize=datamodule.standardize,
        unit=datamodule.unit,
        seed=settings["seed"],
        compile=settings["compile"],
        contrastive=settings["contrastive"],
        covariates=None if datamodule.conditions is None else datamodule.conditions.columns,
    )
    module.scaler.load_state_dict(datamodule.scaler.state_dict())
    if pretrained is None or module.vae.basis_fg is None:
        module.vae.start_from_pca(
            *(torch.from_numpy(part) for part in (pca.components_dg, pca.variance_d, pca.mean_g))
        )
    if pretrained is not None:
        load_weights(module.vae, datamodule.genes["ids"], pretrained)
    if module.vae.likelihood.needs_size_factors:
        use_counts(module.vae.likelihood, datamodule)
    if datamodule.conditions is not None:
        start_conditional(module.vae, *training_samples(module, datamodule))
    if module.contrastive is not None:
        module.contrastive.look_up(datamodule.adata.obs)
    return module


def with_components(model: Mapping[str, Any], found: int) -> dict[str, Any]:
    """Limit ``n_components`` of a model's config to the components that the training samples have."""
    wanted = model["n_components"]
    return {**model, "n_components": None if wanted is None else min(wanted, found)}


def use_counts(likelihood: Likelihood, datamodule: ExpressionDataModule) -> None:
    """Give a likelihood of counts what it needs to convert standardized values to counts.

    Raises
    ------
    DataError, ConfigError
        The data was not made from counts, or its values are clipped.
    """
    size_n = size_factors(datamodule.adata.obs)
    datamodule.add_to_batches(size_n=torch.from_numpy(size_n))
    if datamodule.scaler.clip is not None:
        raise ConfigError(f"data.clip={datamodule.scaler.clip} cuts off counts: set data.clip=null")
    length_g = datamodule.adata.var.get(LENGTH)
    likelihood.set_units(
        center_g=datamodule.scaler.center_g,
        scale_g=datamodule.scaler.scale_g,
        length_g=None if length_g is None else torch.from_numpy(length_g.to_numpy(dtype=np.float32)),
        usual_size=float(np.median(size_n[datamodule.kept("train")])),
    )


def training_samples(module: VAEModule, datamodule: ExpressionDataModule) -> tuple[Tensor, Tensor, Tensor]:
    """Return features (n, f), covariates (n, k) and tissue numbers (n,) of the training samples."""
    obs = datamodule.annotations("train")
    assert datamodule.conditions is not None
    tissue_n = pd.factorize(obs["tissue"], use_na_sentinel=False)[0]
    blocks = blocks_of(datamodule.lazily("train"), BLOCK)
    y_nf = torch.cat([module.vae.project(torch.tensor(x_ng)) for _, x_ng in blocks])
    return y_nf, torch.from_numpy(datamodule.conditions.design(obs)), torch.from_numpy(tissue_n)


def choose_batches(
    module: VAEModule, datamodule: ExpressionDataModule, callbacks: Iterable[Callback]
) -> None:
    """Let batches hold coordinates in the model's basis, unless a step needs the genes themselves."""
    if module.vae.basis_fg is not None and not module.needs_genes(callbacks):
        datamodule.rotate(module.vae.basis_fg)
