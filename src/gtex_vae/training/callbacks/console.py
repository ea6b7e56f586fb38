"""Log lines with validation metrics."""

from __future__ import annotations

import logging
import time

from lightning.pytorch import Callback, Trainer

from gtex_vae.errors import ConfigError
from gtex_vae.training.module import VAEModule

log = logging.getLogger(__name__)

FEW_STEPS = 200  # the running statistics of batch norm alone need about 50


class EpochLines(Callback):
    """Log the validation metrics every ``every_n_epochs`` epochs, with the remaining time.

    Parameters
    ----------
    every_n_epochs
        Epochs between two lines; the last epoch is always logged.
    """

    def __init__(self, every_n_epochs: int = 5) -> None:
        if every_n_epochs < 1:
            raise ConfigError(f"callbacks.console.every_n_epochs={every_n_epochs} must be at least 1")
        self.every_n_epochs = every_n_epochs

    def on_train_start(self, trainer: Trainer, pl_module: VAEModule) -> None:  # type: ignore[override]
        """Start the clock, and warn if training has few steps."""
        self._start, self._first_step = time.monotonic(), trainer.global_step
        steps = int(trainer.estimated_stepping_batches)
        if steps < FEW_STEPS and trainer.is_global_zero:
            log.warning(
                "the whole training has only %d steps: increase trainer.max_epochs or decrease data.batch_size to have %d",
                steps,
                FEW_STEPS,
            )

    def on_validation_end(self, trainer: Trainer, pl_module: VAEModule) -> None:  # type: ignore[override]
        """Log the line."""
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs or 0
        if (
            trainer.sanity_checking
            or not trainer.is_global_zero
            or (epoch % self.every_n_epochs and epoch != last)
        ):
            return
        total = float(trainer.estimated_stepping_batches)
        done = max(trainer.global_step - self._first_step, 1)
        left = (time.monotonic() - self._start) / done * (total - trainer.global_step)
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        imputation = metrics.get("val/imputation_r2_20")  # only if batches hold genes
        log.info(
            "epoch %d/%d  val loss %.4f  R2 %.4f%s  KL %.1f nats  active %d  beta %.2f  %d:%02d left",
            epoch, last, metrics["val/loss"], metrics["val/r2"],
            f"  imputation R2 {imputation:.4f}" if imputation is not None else "", metrics["val/kl_nats"], metrics["val/active_units"], pl_module.beta, *divmod(round(left), 60),
        )  # fmt: skip
