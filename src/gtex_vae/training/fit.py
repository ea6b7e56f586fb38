"""Training of a VAE, from the config to the metrics of a finished run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from gtex_vae import runtime
from gtex_vae.errors import ConfigError
from gtex_vae.runs import directory
from gtex_vae.training import devices, environment
from gtex_vae.training.build import build_trainer, check_values
from gtex_vae.training.callbacks.stop_now import StopNow
from gtex_vae.training.cohort_size import fit_to_cohort
from gtex_vae.training.finish import finish_run
from gtex_vae.training.start import choose_batches, fit_pca, initial_module, read_data
from gtex_vae.training.warm_start import check_data, find_pretrained, with_architecture


def fit_vae(settings: Mapping[str, Any], run_dir: Path, *, stated: Collection[str] = ()) -> float | None:
    """Train a VAE in a run directory, and resume from ``last.ckpt`` if it exists.

    Parameters
    ----------
    settings
        Root keys of ``conf/train.yaml``.
    run_dir
        Output directory.
    stated
        Keys that the user set, see `fit_to_cohort`.

    Returns
    -------
    float or None
        Reconstruction R2 on held-out donors; ``None`` in every process but the first.
    """
    refuse_covariates_with_contrast(settings)
    runtime.tune_process()
    environment.quiet_libraries()
    nodes = ("model", "objective", "optimizer", "learning_rate", "contrastive", "trainer")
    check_values(*(settings[node] for node in nodes))
    pretrained = find_pretrained(settings)
    trainer = build_trainer(settings["trainer"], settings["callbacks"], settings["logger"], run_dir)
    if settings.get("finish"):
        trainer.callbacks.append(StopNow())  # type: ignore[attr-defined]
    datamodule = read_data(settings["data"], run_dir)
    settings = fit_to_cohort(
        settings, len(datamodule.rows("train")), datamodule.adata.n_vars,
        processes=devices.number(settings["trainer"]), stated=stated,
    )  # fmt: skip
    datamodule.batch_size = settings["data"]["batch_size"]
    check_data(pretrained, datamodule)
    settings = with_architecture(settings, pretrained, stated)
    pca = fit_pca(datamodule, settings["model"]["latent_dim"], settings["model"]["n_components"])
    module = initial_module(settings, datamodule, pca, pretrained)
    choose_batches(module, datamodule, trainer.callbacks)  # type: ignore[attr-defined]
    last = run_dir / directory.LAST
    trainer.fit(module, datamodule, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    release_optimizers(trainer)
    metrics: dict[str, float] = {}
    if trainer.is_global_zero:
        metrics = finish_run(module, datamodule, pca, trainer, settings, run_dir)
    trainer.strategy.barrier()  # no process may mark the run a success before it is finished
    return metrics.get("reconstruction/r2")


def refuse_covariates_with_contrast(settings: Mapping[str, Any]) -> None:
    """Refuse to train a conditional model with a contrastive term.

    Raises
    ------
    ConfigError
        The config has both.
    """
    if settings["contrastive"] is not None and settings["data"].get("covariates"):
        raise ConfigError(
            "data.covariates: a conditional model cannot be trained with a contrastive term; set data.covariates=[] or "
            "contrastive=null"
        )


def release_optimizers(trainer: Trainer) -> None:
    """Free the states of the optimizers, up to three times the size of the weights."""
    for optimizer in trainer.optimizers:
        optimizer.zero_grad()
        optimizer.state.clear()
    runtime.give_back()
