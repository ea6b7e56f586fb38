"""Fitting a VAE: prepare the data, train, keep the best model and measure it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import seed_everything
from torch import Tensor

from gtex_vae import runtime
from gtex_vae.analysis.report.model_card import write_card
from gtex_vae.config import build
from gtex_vae.data.counts import LENGTH, size_factors
from gtex_vae.data.datamodule import ExpressionDataModule
from gtex_vae.data.loading.standardized import BLOCK
from gtex_vae.data.rows import blocks_of
from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import ConfigError, RunError
from gtex_vae.files import write_json
from gtex_vae.inference.projection import PROJECTION
from gtex_vae.models.conditioning import free_latent, start_conditional
from gtex_vae.nn.likelihoods import NegativeBinomial
from gtex_vae.runs import directory
from gtex_vae.training import environment
from gtex_vae.training.build import build_trainer, check_values
from gtex_vae.training.finish import best_module, calibrate, fit_pca, measure, report
from gtex_vae.training.module import VAEModule


def fit_vae(settings: Mapping[str, Any], run_dir: Path) -> float | None:
    """Train a VAE in a run directory, going on from ``last.ckpt`` where there is one.

    Parameters
    ----------
    settings
        The root keys of ``conf/train.yaml``.
    run_dir
        Where everything is written.

    Returns
    -------
    float or None
        Reconstruction R2 on held-out donors; ``None`` in every process but the first.
    """
    if settings["contrastive"] is not None and settings["data"].get("covariates"):
        raise ConfigError(
            "data.covariates: a conditional model is not trained with a contrastive term; choose one of the two"
        )
    runtime.tune_process()
    environment.quiet_libraries()
    check_values(
        settings["model"],
        settings["objective"],
        settings["optimizer"],
        settings["learning_rate"],
        settings["contrastive"],
        settings["trainer"],
    )
    trainer = build_trainer(settings["trainer"], settings["callbacks"], settings["logger"], run_dir)
    datamodule = build(settings["data"], under="gtex_vae.data")
    datamodule.prepare_data()
    datamodule.setup()
    last = run_dir / "checkpoints" / "last.ckpt"
    if last.exists():
        refuse_other_data(last, datamodule.scaler)
    if directory.is_first_process():
        datamodule.write_splits(run_dir / "splits.csv")

    pca = fit_pca(datamodule, settings["model"]["latent_dim"], settings["model"]["n_components"])
    seed_everything(settings["seed"], workers=True, verbose=False)
    module = VAEModule(
        with_components(settings["model"], len(pca.components_dg)),
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
    if isinstance(module.vae.likelihood, NegativeBinomial):
        of_counts(module.vae.likelihood, datamodule)
    module.vae.start_from_pca(
        *(torch.from_numpy(part) for part in (pca.components_dg, pca.variance_d, pca.mean_g))
    )
    if datamodule.conditions is not None:
        start_conditional(module.vae, *samples_told(module, datamodule))
    if module.contrastive is not None:
        module.contrastive.look_up(datamodule.adata.obs)
    if module.vae.basis_fg is not None and not module.needs_genes(trainer.callbacks):  # type: ignore[attr-defined]
        datamodule.rotate(module.vae.basis_fg)
    trainer.fit(module, datamodule, ckpt_path=str(last) if last.exists() else None, weights_only=True)

    for optimizer in trainer.optimizers:  # three times the weights, which nothing needs any more
        optimizer.zero_grad()
        optimizer.state.clear()
    runtime.give_back()

    metrics: dict[str, float] = {}
    if trainer.is_global_zero:
        best = best_module(module, run_dir)
        trained = best.trained()
        if datamodule.conditions is not None:
            free_latent(trained.vae, *samples_told(best, datamodule))
        trained.save(run_dir / "model")
        if best.contrastive is not None:
            best.contrastive.save_head(run_dir / PROJECTION)
        runtime.give_back()  # what writing them took
        calibrate(trained, datamodule, run_dir / "model")
        metrics = measure(
            trained, datamodule, pca.leading(module.vae.latent_dim), seed=settings["metrics_seed"]
        )
        write_json(run_dir / "metrics.json", metrics)
        write_card(run_dir)
        report(metrics, trained, trainer, settings, run_dir)
    trainer.strategy.barrier()  # no process marks the run a success before it is one
    return metrics.get("reconstruction/r2")


def refuse_other_data(last: Path, scaler: Standardizer) -> None:
    """Refuse to go on from a state whose training samples were others: donors could come from test into training.

    Parameters
    ----------
    last
        The checkpoint.
    scaler
        Fitted on the training samples of now.

    Raises
    ------
    RunError
        The genes' means or scales are not those of the checkpoint, or it cannot be read.
    """
    anew = "give another hydra.run.dir, or overwrite=true to start anew"
    try:
        state = torch.load(last, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    except (RuntimeError, UnpicklingError) as error:
        raise RunError(f"{last} cannot be read: {str(error).splitlines()[0]}; {anew}") from error
    if not scaler.agrees_with(state["scaler.center_g"], state["scaler.scale_g"]):
        raise RunError(f"{last} was trained on other samples, values or genes than there are now: {anew}")


def samples_told(module: VAEModule, datamodule: ExpressionDataModule) -> tuple[Tensor, Tensor, Tensor]:
    """Features, covariates' design and tissue numbers of the training samples."""
    obs = datamodule.annotations("train")
    assert datamodule.conditions is not None
    tissue_n = pd.factorize(obs["tissue"], use_na_sentinel=False)[0]
    blocks = blocks_of(datamodule.lazily("train"), BLOCK)
    y_nf = torch.cat([module.vae.project(torch.tensor(x_ng)) for _, x_ng in blocks])
    return y_nf, torch.from_numpy(datamodule.conditions.design(obs)), torch.from_numpy(tissue_n)


def of_counts(likelihood: NegativeBinomial, datamodule: ExpressionDataModule) -> None:
    """Tell a likelihood of counts what turns standardized values into counts.

    Raises
    ------
    DataError, ConfigError
        The data was not made from counts, or its values are cut off.
    """
    size_n = size_factors(datamodule.adata.obs)
    datamodule.add_to_batches(size_n=torch.from_numpy(size_n))
    if datamodule.scaler.clip is not None:
        raise ConfigError(f"data.clip={datamodule.scaler.clip} cuts off counts: set data.clip=null")
    length_g = datamodule.adata.var.get(LENGTH)
    likelihood.center_g.copy_(datamodule.scaler.center_g)
    likelihood.scale_g.copy_(datamodule.scaler.scale_g)
    likelihood.usual_size.fill_(float(np.median(size_n[datamodule.kept("train")])))
    if length_g is not None:
        likelihood.length_g.copy_(torch.from_numpy(length_g.to_numpy(dtype=np.float32)))


def with_components(model: Mapping[str, Any], found: int) -> dict[str, Any]:
    """The model's config with no more components than the training samples have."""
    wanted = model["n_components"]
    return {**model, "n_components": None if wanted is None else min(wanted, found)}
