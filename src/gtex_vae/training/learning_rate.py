"""Learning-rate schedules, in the form that Lightning expects from ``configure_optimizers``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from gtex_vae.config import nearest
from gtex_vae.errors import ConfigError
from gtex_vae.functional import schedules


def warmup_cosine(
    optimizer: Optimizer, total_steps: int, *, warmup: float = 0.1, final: float = 0.0
) -> dict[str, Any]:
    """Linear warm-up over the fraction ``warmup`` of training, then half a cosine down to ``final`` of the peak.

    Parameters
    ----------
    optimizer
        Its learning rate is the peak.
    total_steps
        Steps of the whole training.
    warmup, final
        See `gtex_vae.functional.schedules.warmup_cosine`.

    Raises
    ------
    ConfigError
        A value is impossible; the message names its config key.
    """
    if not 0.0 <= warmup < 1.0:
        raise ConfigError(f"learning_rate.warmup={warmup} must be in [0, 1)")
    if not 0.0 <= final <= 1.0:
        raise ConfigError(f"learning_rate.final={final} must be in [0, 1]")

    def factor(step: int) -> float:
        # Half a step later, so that neither the first nor the last step has learning rate 0.
        return schedules.warmup_cosine((step + 0.5) / total_steps, warmup=warmup, final=final)

    return {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}


def reduce_on_plateau(
    optimizer: Optimizer,
    total_steps: int,
    *,
    monitor: str = "val/loss",
    factor: float = 0.5,
    patience: int = 5,
) -> dict[str, Any]:
    """Multiply the learning rate by ``factor`` when ``monitor`` has not improved for ``patience`` validations.

    Raises
    ------
    ConfigError
        A value is impossible; the message names its config key.
    """
    if not 0.0 < factor < 1.0:
        raise ConfigError(f"learning_rate.factor={factor} must be between 0 and 1")
    if patience < 0:
        raise ConfigError(f"learning_rate.patience={patience} must not be negative")
    scheduler = ReduceLROnPlateau(optimizer, factor=factor, patience=patience)
    return {"scheduler": scheduler, "monitor": monitor, "interval": "epoch"}


def reset_rates(
    optimizer: Optimizer, settings: Sequence[Mapping[str, Any]], schedulers: Iterable[Any], step: int
) -> None:
    """Replace the restored settings of an optimizer and its schedules by those of the config.

    Parameters
    ----------
    optimizer
        After a checkpoint was restored.
    settings
        Learning rate, weight decay and so on of each parameter group.
    schedulers
        Of the optimizer.
    step
        Steps so far.
    """
    for group, values in zip(optimizer.param_groups, settings, strict=True):
        group.update(values)
        group["initial_lr"] = values["lr"]
    for scheduler in schedulers:
        if isinstance(scheduler, LambdaLR):
            scheduler.base_lrs = [values["lr"] for values in settings]
            scheduler.last_epoch = step
            for group, factor in zip(optimizer.param_groups, scheduler.lr_lambdas, strict=True):
                group["lr"] = group["initial_lr"] * factor(step)


def step_on_metrics(configs: Iterable[Any], metrics: Mapping[str, Tensor]) -> None:
    """Step the schedules that monitor a validation metric.

    Parameters
    ----------
    configs
        Lightning's ``trainer.lr_scheduler_configs``.
    metrics
        Metrics of the validation that has just ended.

    Raises
    ------
    ConfigError
        There is no such metric.
    """
    for config in configs:
        if not isinstance(config.scheduler, ReduceLROnPlateau):
            continue
        if config.monitor not in metrics:
            known = nearest(config.monitor, metrics)
            raise ConfigError(f"learning_rate.monitor={config.monitor} is not a validation metric{known}")
        config.scheduler.step(float(metrics[config.monitor]))
