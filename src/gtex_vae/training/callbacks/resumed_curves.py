"""Curves of a resumed run go on where its checkpoint was made, without gaps or doubled points."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from gtex_vae.training.callbacks.figures import tensorboard_writer


class ResumedCurves(Callback):
    """Hide what a killed process wrote after its last checkpoint, and lose nothing from before it."""

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Flush: TensorBoard's writer holds events back for up to two minutes."""
        writer = tensorboard_writer(trainer)
        if writer is not None:
            writer.flush()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Have the writer say where training goes on: what a reader has seen from there on, it forgets."""
        writer = tensorboard_writer(trainer)
        if writer is not None and trainer.global_step > 0:
            writer.close()  # it was made before the step was known, and opens a new file by itself
            # what was reported at the checkpoint's own step stays
            writer.purge_step = trainer.global_step + 1
