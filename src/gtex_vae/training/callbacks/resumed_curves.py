"""TensorBoard curves of resumed runs, without gaps and duplicate points."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from gtex_vae.training.callbacks.figures import tensorboard_writer


class ResumedCurves(Callback):
    """Hide events that a killed process wrote after its last checkpoint, and keep all events before it."""

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Flush the events, which TensorBoard's writer buffers for up to two minutes."""
        writer = tensorboard_writer(trainer)
        if writer is not None:
            writer.flush()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write a purge step, after which readers discard earlier events."""
        writer = tensorboard_writer(trainer)
        if writer is not None and trainer.global_step > 0:
            writer.close()  # opened before the step was known; it opens a new file itself
            # events of the checkpoint's own step are kept
            writer.purge_step = trainer.global_step + 1
