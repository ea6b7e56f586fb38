"""Log lines with validation retrieval."""

from __future__ import annotations

import logging

from lightning.pytorch import Callback, LightningModule, Trainer

from gtex_vae.errors import ConfigError

log = logging.getLogger(__name__)


class RetrievalLines(Callback):
    """Log validation retrieval every ``every_n_epochs`` epochs.

    Parameters
    ----------
    every_n_epochs
        Epochs between two lines.
    """

    def __init__(self, every_n_epochs: int = 25) -> None:
        if every_n_epochs < 1:
            raise ConfigError(f"callbacks.console.every_n_epochs={every_n_epochs} must be at least 1")
        self.every_n_epochs = every_n_epochs

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the line."""
        epoch = trainer.current_epoch + 1
        if trainer.is_global_zero and epoch % self.every_n_epochs == 0:
            metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
            log.info(
                "epoch %d/%d  val top-1 %.3f  top-5 %.3f  MRR %.3f  loss %.3f",
                epoch, trainer.max_epochs, metrics["val/top1"], metrics["val/top5"], metrics["val/mrr"],
                metrics["val/loss"],
            )  # fmt: skip
