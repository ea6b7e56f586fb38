"""The trainer of a run, from plain configs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtex_vae.config import build, find_target
from gtex_vae.errors import ConfigError
from gtex_vae.training import devices, environment

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


PRECISIONS = (None, "32-true", "bf16-mixed", "16-mixed")  # weights are float32 in every one
PLACEHOLDER_GENES = 1_000_000


def check_values(
    model: dict[str, Any],
    objective: dict[str, Any],
    optimizer: dict[str, Any],
    learning_rate: dict[str, Any] | None,
    contrastive: dict[str, Any] | None = None,
    trainer: dict[str, Any] | None = None,
) -> None:
    """Build model, objective, optimizer and schedule without memory, so that impossible values are refused before data is read.

    Raises
    ------
    ConfigError
        A constructor refuses a value, or the trainer's precision the optimizer.
    """
    import torch

    with torch.device("meta"):
        vae = build(model, under="gtex_vae.models", n_genes=PLACEHOLDER_GENES)
    build(objective, under="gtex_vae.models")
    if contrastive is not None:
        build(contrastive, under="gtex_vae.models", latent_dim=model["latent_dim"])
    try:
        built = build(optimizer, under="torch.optim", params=vae.parameters())
    except ValueError as error:
        raise ConfigError(f"optimizer: {error}") from error
    clips = (
        trainer is not None and trainer.get("precision") == "16-mixed" and trainer.get("gradient_clip_val")
    )
    if clips and optimizer.get("fused"):
        raise ConfigError(
            "trainer.precision=16-mixed rescales gradients inside a fused optimizer, too late to clip them: set "
            "optimizer.fused=false"
        )
    if learning_rate is not None:
        build(learning_rate, under="gtex_vae.training.learning_rate", optimizer=built, total_steps=100)


def build_trainer(
    trainer: dict[str, Any],
    callbacks: dict[str, dict[str, Any]],
    logger: dict[str, Any] | None,
    run_dir: Path,
) -> Trainer:
    """Put trainer, callbacks and logger together so that everything lies in the run directory.

    Parameters
    ----------
    trainer
        Arguments of `lightning.pytorch.Trainer`.
    callbacks
        Name to node, in the order they run; a node that is ``None`` is left out.
    logger
        Node of the logger, or ``None``.
    run_dir
        Where checkpoints and logs go. It is also ``default_root_dir``: anywhere else a checkpoint that another job
        left for SLURM would be picked up silently.

    Raises
    ------
    ConfigError
        Lightning refuses a value.
    """
    from lightning.pytorch.callbacks import RichProgressBar
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    from gtex_vae.training.callbacks.checkpoints import AtomicCheckpointIO, place_checkpoints
    from gtex_vae.training.callbacks.resumed_curves import ResumedCurves
    from gtex_vae.training.callbacks.unfinished_hparams import UnfinishedSession

    for key in ("max_epochs", "check_val_every_n_epoch"):
        if trainer.get(key) is not None and trainer[key] < 1:
            raise ConfigError(f"trainer.{key}={trainer[key]} must be at least 1")
    if trainer.get("precision") not in PRECISIONS:
        known = ", ".join(str(name) for name in PRECISIONS[1:])
        raise ConfigError(f"trainer.precision={trainer['precision']} is none of {known}, or null")
    built = [
        build(node, under=("gtex_vae.training.callbacks", "lightning.pytorch.callbacks"))
        for node in callbacks.values()
        if node is not None
    ]
    built += [ResumedCurves(), UnfinishedSession()]
    live = sys.stdout.isatty() and trainer.get("enable_progress_bar", True)
    if live:
        built.append(RichProgressBar())
    arguments = {key: value for key, value in trainer.items() if key != "_target_"}
    if arguments.get("precision") is None:
        arguments["precision"] = environment.best_precision(arguments["accelerator"])
    arguments["enable_progress_bar"] = live
    arguments["strategy"] = devices.strategy(trainer)
    refuse_in_a_sweep(trainer)
    plugins = [
        AtomicCheckpointIO(),
        environment.cluster_environment(trainer["devices"], trainer.get("num_nodes", 1)),
    ]
    try:
        made: Trainer = find_target(trainer["_target_"], under="lightning.pytorch")(
            **arguments,
            callbacks=built,
            logger=False if logger is None else build(logger, under="lightning.pytorch.loggers", save_dir=os.fspath(run_dir)),
            plugins=plugins,
            default_root_dir=os.fspath(run_dir),
            enable_model_summary=False,
        )  # fmt: skip
    except (MisconfigurationException, ValueError) as error:
        raise ConfigError(f"trainer: {str(error).splitlines()[0]}") from error
    place_checkpoints(made, run_dir)
    return made


def refuse_in_a_sweep(trainer: dict[str, Any]) -> None:
    """Refuse several devices in the job of a sweep that has one task: the processes it starts would repeat the sweep.

    Raises
    ------
    ConfigError
        The job is one of a sweep and does not run under a scheduler that starts its processes.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    in_sweep = HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN
    if in_sweep and devices.number(trainer) > 1 and int(os.environ.get("SLURM_NTASKS", "1")) == 1:
        raise ConfigError(
            f"trainer.devices={trainer['devices']} in a sweep needs jobs of as many tasks: add hydra/launcher=slurm_gpu "
            f"hydra.launcher.tasks_per_node={trainer['devices']} hydra.launcher.gpus_per_node={trainer['devices']}"
        )
