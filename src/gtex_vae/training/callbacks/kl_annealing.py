"""KL annealing: weight and target of the KL term at each step."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, Trainer

from gtex_vae.errors import ConfigError
from gtex_vae.functional.schedules import Shape, kl_capacity, kl_weight, warmup_end
from gtex_vae.training.module import VAEModule


class KLAnnealing(Callback):
    """Write ``module.beta`` (and ``module.capacity``) before each batch, as a function of the step.

    The callback has no state, so a resumed run gets the values of an uninterrupted one. Fractions refer to the whole
    training (``trainer.max_epochs``), so a schedule keeps its shape in a longer training.

    Parameters
    ----------
    shape
        ``constant``, ``linear``, ``cosine``, ``exponential`` or ``sigmoid``.
    beta
        Largest weight; 1 is the ELBO.
    start
        Fraction of training before annealing starts.
    cycles
        Number of cycles in the rest of training; 1 is the usual warm-up.
    ratio
        Fraction of each cycle spent rising.
    decay
        Factor on the largest weight from one cycle to the next.
    floor
        Smallest weight.
    capacity
        If given, the penalty is ``beta * |KL - C|`` with C rising to this many nats over the first ``ratio``.

    Raises
    ------
    ConfigError
        A value is impossible; the message names its config key.

    References
    ----------
    See `gtex_vae.functional.schedules.kl_weight` and `kl_capacity`.

    Examples
    --------
    Cyclical annealing (Fu et al. 2019), in ``callbacks/default.yaml`` or on the command line::

        callbacks.kl_annealing.cycles=4 callbacks.kl_annealing.ratio=0.5
    """

    def __init__(
        self,
        shape: Shape = "linear",
        *,
        beta: float = 1.0,
        start: float = 0.0,
        cycles: float = 1.0,
        ratio: float = 0.25,
        decay: float = 1.0,
        floor: float = 0.0,
        capacity: float | None = None,
    ) -> None:
        here = "callbacks.kl_annealing"
        for name, value, possible in (
            ("beta", beta, beta >= 0.0),
            ("start", start, 0.0 <= start < 1.0),
            ("cycles", cycles, cycles > 0.0),
            ("ratio", ratio, 0.0 < ratio <= 1.0),
            ("decay", decay, 0.0 < decay <= 1.0),
            ("floor", floor, floor >= 0.0),
            ("capacity", capacity, capacity is None or capacity > 0.0),
        ):
            if not possible:
                raise ConfigError(f"{here}.{name}={value} is impossible; see `KLAnnealing` for its range")
        self.weight: dict[str, Any] = {
            "shape": shape, "beta": beta, "start": start, "cycles": cycles, "ratio": ratio, "decay": decay, "floor": floor
        }  # fmt: skip
        self.capacity, self.ratio = capacity, ratio
        self.warmup_end = warmup_end(shape=shape, start=start, cycles=cycles, ratio=ratio)

    def on_train_start(self, trainer: Trainer, pl_module: VAEModule) -> None:  # type: ignore[override]
        """Store the number of steps, which Lightning computes at every call."""
        self.total_steps = float(trainer.estimated_stepping_batches)

    def on_train_batch_start(  # type: ignore[override]
        self, trainer: Trainer, pl_module: VAEModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the weight for this step."""
        progress = trainer.global_step / self.total_steps
        pl_module.beta = kl_weight(progress, **self.weight)
        if self.capacity is not None:
            pl_module.capacity = kl_capacity(progress, capacity=self.capacity, ratio=self.ratio)


def in_warmup(trainer: Trainer) -> bool:
    """Return True before the KL weight has reached its largest value; metrics until then say little about the final model."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    ends = [callback.warmup_end for callback in callbacks if isinstance(callback, KLAnnealing)]
    return trainer.global_step < max(ends, default=0.0) * float(trainer.estimated_stepping_batches)
