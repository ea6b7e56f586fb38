"""Construction of a run's trainer from plain configs."""

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
    """Build model, objective, optimizer and schedule on the meta device, to refuse impossible values before data is read.

    Raises
    ------
    ConfigError
        A constructor refuses a value, or the optimizer does not fit the trainer's precision.
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
            "trainer.precision=16-mixed rescales gradients inside a fused optimizer, after they are clipped: set "
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
    """Build trainer, callbacks and logger that write only to the run directory.

    Parameters
    ----------
    trainer
        Arguments of `lightning.pytorch.Trainer`.
    callbacks
        Name to node, in the order they run; ``None`` nodes are skipped.
    logger
        Node of the logger, or ``None``.
    run_dir
        Directory of checkpoints and logs. It is also ``default_root_dir``: in a shared directory Lightning would
        silently load a checkpoint that another SLURM job left there.

    Raises
    ------
    ConfigError
        A value is impossible.
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
        raise ConfigError(f"trainer.precision={trainer['precision']} must be one of {known}, or null")
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
