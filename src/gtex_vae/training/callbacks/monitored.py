"""Check of the metric that a callback monitors."""

from __future__ import annotations

from lightning.pytorch import Trainer

from gtex_vae.config import nearest
from gtex_vae.errors import ConfigError


def refuse_unknown(trainer: Trainer, callback: str, monitor: str) -> None:
    """Refuse a metric that is not among those of the last validation.

    Parameters
    ----------
    callback
        Its key under ``callbacks``.
    monitor
        The metric that it monitors.

    Raises
    ------
    ConfigError
        With the key and the available metrics.
    """
    if not trainer.sanity_checking and monitor not in trainer.callback_metrics:
        known = [key for key in trainer.callback_metrics if key.startswith("val/")]
        raise ConfigError(
            f"callbacks.{callback}.monitor={monitor} is not a validation metric{nearest(monitor, known)}"
        )
