"""Callback that ends a training before its next step."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer


class StopNow(Callback):
    """Stop as soon as the state is restored, to finish a run with the weights that it has."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop."""
        trainer.should_stop = True
