"""Early stopping that waits for the end of the KL warm-up."""

from __future__ import annotations

from typing import Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from gtex_vae.errors import ConfigError
from gtex_vae.training.callbacks.kl_annealing import in_warmup
from gtex_vae.training.callbacks.monitored import refuse_unknown


class PatientStopping(EarlyStopping):
    """Stop when a validation metric has not improved for a while, or has reached its target.

    Parameters
    ----------
    monitor
        A metric that does not move with beta.
    mode
        ``min`` or ``max``.
    patience
        Validations without improvement before stopping.
    target_loss
        Stop as soon as the metric is at least this good, or ``None``.
    """

    def __init__(
        self,
        monitor: str = "val/loss",
        mode: Literal["min", "max"] = "min",
        *,
        patience: int = 30,
        target_loss: float | None = None,
    ) -> None:
        if patience < 1:
            raise ConfigError(f"callbacks.early_stopping.patience={patience} must be at least 1")
        # a NaN stops the run with its cause elsewhere, so it is no business of this callback
        # and by default Lightning looks at the end of the training epoch instead, past the hook below
        super().__init__(
            monitor,
            mode=mode,
            patience=patience,
            stopping_threshold=target_loss,
            check_finite=False,
            check_on_train_epoch_end=False,
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep a run stopped that was killed after its last epoch: Lightning restores the reason, not the stop."""
        if self.stopping_reason is not EarlyStoppingReason.NOT_STOPPED:
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the metric, once the warm-up is over.

        Raises
        ------
        ConfigError
            There is no such metric.
        """
        assert self.monitor is not None
        refuse_unknown(trainer, "early_stopping", self.monitor)  # now, not at the end of the warm-up
        if not in_warmup(trainer):
            super().on_validation_end(trainer, pl_module)
