"""Checkpoints: the best model after the warm-up, and the last state to resume from."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from gtex_vae.errors import ConfigError
from gtex_vae.files import write_beside, write_json
from gtex_vae.training.callbacks.kl_annealing import in_warmup
from gtex_vae.training.callbacks.monitored import refuse_unknown

SHARE = 0.05  # maximum share of training time for writing last.ckpt
QUICK = 0.2  # seconds; checkpoints that take less are saved after every epoch


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint IO that writes to a temporary file and renames it, and loads only plain containers and tensors."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write the checkpoint; if that fails, the previous one is unchanged."""
        with write_beside(path) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> Any:
        """Load with ``weights_only=True`` in any case, so that a checkpoint cannot run code."""
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)


class BestCheckpoint(ModelCheckpoint):
    """Keep ``best.ckpt`` by a validation metric after the KL warm-up, and its metrics in ``best.json``.

    Parameters
    ----------
    monitor
        A metric that does not depend on beta.
    mode
        ``min`` or ``max``.
    """

    def __init__(self, monitor: str = "val/loss", mode: Literal["min", "max"] = "min") -> None:
        super().__init__(
            filename="best",
            monitor=monitor,
            mode=mode,
            save_weights_only=True,
            save_on_train_epoch_end=False,  # the default would save before the hook below
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score; in a run that was moved, its files are in the present folder.

        Lightning would forget the score of a moved run, so that the next epoch replaced a better one.
        """
        folder = str(self.dirpath)

        def here(path: str) -> str:
            return os.path.join(folder, os.path.basename(path)) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved = {key: here(state_dict[key]) for key in paths if key in state_dict}
        best_k = {here(path): score for path, score in state_dict.get("best_k_models", {}).items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": best_k, "dirpath": self.dirpath})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare and save after the warm-up.

        Raises
        ------
        ConfigError
            The metric does not exist.
        """
        assert self.monitor is not None
        refuse_unknown(trainer, "best", self.monitor)  # already during the warm-up
        if in_warmup(trainer):
            return
        before = self.best_model_score
        super().on_validation_end(trainer, pl_module)
        if trainer.is_global_zero and self.best_model_score is not before:
            metrics = {key: float(v) for key, v in trainer.callback_metrics.items() if key.startswith("val/")}
            write_json(Path(str(self.dirpath), "best.json"), metrics)


class LastCheckpoint(Checkpoint):
    """Keep ``last.ckpt``, the state to resume from, at the end of epochs and optionally every few steps.

    After the last batch of an epoch it is saved only at the end of the epoch: a run resumed in between would skip the
    validation, and with it early stopping, the best model and the learning rate. Checkpoints are skipped when writing
    would take more than 5 % of training time (`SHARE`); the last epoch is always saved.

    Parameters
    ----------
    every_n_train_steps
        Also save every so many steps; ``None``: at the end of epochs only.
    """

    def __init__(self, every_n_train_steps: int | None = None) -> None:
        if every_n_train_steps is not None and every_n_train_steps < 1:
            raise ConfigError(f"callbacks.last.every_n_train_steps={every_n_train_steps} must be at least 1")
        self.every_n_train_steps = every_n_train_steps
        self.dirpath: str | None = None
        self._not_before = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save within the epoch every ``every_n_train_steps``."""
        every = self.every_n_train_steps
        if every is not None and trainer.global_step % every == 0 and not trainer.is_last_batch:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after the validation, unless writing would take too long."""
        over = (
            trainer.should_stop
            or trainer.current_epoch + 1 == trainer.max_epochs
            or trainer.global_step == trainer.max_steps
        )
        # All processes write together, so one of them decides.
        if trainer.strategy.broadcast(over or time.monotonic() >= self._not_before):
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        assert self.dirpath is not None, "place_checkpoints() first"
        start = time.monotonic()
        trainer.save_checkpoint(os.path.join(self.dirpath, "last.ckpt"))
        seconds = time.monotonic() - start
        self._not_before = start + (seconds / SHARE if seconds > QUICK else 0.0)


def place_checkpoints(trainer: Trainer, run_dir: Path) -> None:
    """Point every checkpoint callback at ``<run>/checkpoints``."""
    for callback in trainer.checkpoint_callbacks:
        assert isinstance(callback, ModelCheckpoint | LastCheckpoint)
        callback.dirpath = os.fspath(run_dir / "checkpoints")
