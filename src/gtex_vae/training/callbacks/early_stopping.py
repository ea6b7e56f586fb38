"""Early stopping after the KL warm-up."""

from __future__ import annotations

from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from gtex_vae.errors import ConfigError
from gtex_vae.training.callbacks.kl_annealing import in_warmup
from gtex_vae.training.callbacks.monitored import refuse_unknown


class PatientStopping(EarlyStopping):
    """Stop when a validation metric has stopped improving, or has reached a target; ignores the KL warm-up.

    Parameters
    ----------
    monitor
        A metric that does not depend on beta.
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
        # `FiniteLoss` handles NaN. By default Lightning would check at the end of the training epoch, not in the hook below.
        super().__init__(
            monitor,
            mode=mode,
            patience=patience,
            stopping_threshold=target_loss,
            check_finite=False,
            check_on_train_epoch_end=False,
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop a resumed run that had stopped early: Lightning restores the reason, but not the stop itself.

        A run that is continued with other settings starts to wait again.
        """
        if getattr(pl_module, "continued", False):
            self.wait_count, self.stopped_epoch = 0, 0
            self.stopping_reason = EarlyStoppingReason.NOT_STOPPED
        if self.stopping_reason is not EarlyStoppingReason.NOT_STOPPED:
            trainer.should_stop = True

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, but use the patience of the config."""
        patience = self.patience
        super().load_state_dict(state_dict)
        self.patience = patience

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the metric after the warm-up.

        Raises
        ------
        ConfigError
            The metric does not exist.
        """
        assert self.monitor is not None
        refuse_unknown(trainer, "early_stopping", self.monitor)  # already during the warm-up
        if not in_warmup(trainer):
            super().on_validation_end(trainer, pl_module)
