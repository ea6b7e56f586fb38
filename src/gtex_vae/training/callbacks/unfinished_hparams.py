"""Callback that adds failed, pruned and interrupted runs to TensorBoard's HPARAMS tab, without metrics."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.tensorboard.summary import hparams

from gtex_vae.runs import directory
from gtex_vae.runs.events import add_summary
from gtex_vae.training.callbacks.figures import tensorboard_writer


class UnfinishedSession(Callback):
    """Log the settings of a run that ends early; a finished run logs them with its metrics.

    No `session_end` record is written: TensorBoard keeps the first one it reads, and the run may still be resumed.
    """

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the settings."""
        from gtex_vae.training.hparams import run_settings

        writer, run_dir = tensorboard_writer(trainer), Path(trainer.default_root_dir)
        if writer is not None and (run_dir / directory.CONFIG).exists():
            _, start, _ = hparams(run_settings(directory.read_config(run_dir), run_dir), {})
            add_summary(writer, start)
