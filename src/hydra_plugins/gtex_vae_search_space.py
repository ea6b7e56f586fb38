"""Search spaces: from Hydra's sweep grammar to optuna's distributions."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import OmegaConf

from gtex_vae.config import build
from gtex_vae.errors import ConfigError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

log = logging.getLogger(__name__)


def grid_points(space: Mapping[str, BaseDistribution]) -> list[dict[str, Any]]:
    """List all combinations."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    values: dict[str, Sequence[Any]] = {}
    for key, part in space.items():
        if isinstance(part, CategoricalDistribution):
            values[key] = part.choices
        elif isinstance(part, IntDistribution):
            values[key] = range(part.low, part.high + 1, part.step)
        else:
            raise ConfigError(
                f"{key}: hydra.sweeper.sampler=grid requires choice(...) or range(...), not an interval"
            )
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


def distribution(override: Override) -> BaseDistribution:
    """Convert a sweep of Hydra's grammar to an optuna distribution."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        log_scale = "log" in value.tags
        try:
            if isinstance(value.start, int) and isinstance(value.end, int):
                return IntDistribution(value.start, value.end, log=log_scale)
            return FloatDistribution(value.start, value.end, log=log_scale)
        except ValueError as error:
            raise ConfigError(f"{override.input_line}: {error}") from error
    if isinstance(value, RangeSweep):
        numbers = list(value.range())
        if numbers and all(isinstance(number, int) for number in numbers):
            return IntDistribution(numbers[0], numbers[-1], step=int(value.step))
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def fit_to_data(space: dict[str, BaseDistribution], config: Any) -> dict[str, BaseDistribution]:
    """Limit the space to sizes that the training samples allow, after preparing the data.

    Parameters
    ----------
    space
        Key to distribution.
    config
        Config of the search. On SLURM the data is not prepared here; if it is not ready, trials fit their own sizes.
    """
    from gtex_vae.training.cohort_size import size_limits
    from gtex_vae.training.devices import number

    data = OmegaConf.to_container(config.data, resolve=True)
    on_slurm = "slurm" in str(config.hydra.launcher._target_).lower()
    if not space.keys() & size_limits(1, 1).keys() or (on_slurm and not Path(data["processed"]).exists()):
        return space
    datamodule = build(data, under="gtex_vae.data")
    datamodule.prepare_data()
    return limited(space, size_limits(*datamodule.training_size(), number(config.trainer)))


def limited(
    space: Mapping[str, BaseDistribution], limits: Mapping[str, tuple[int, int]]
) -> dict[str, BaseDistribution]:
    """Remove values above the largest of their key; if none is left, take the default.

    >>> from optuna.distributions import CategoricalDistribution
    >>> limited({"data.batch_size": CategoricalDistribution(["16", "64"])}, {"data.batch_size": (60, 15)})
    {'data.batch_size': CategoricalDistribution(choices=('16',))}
    """
    from optuna.distributions import CategoricalDistribution, IntDistribution

    fitted = dict(space)
    for key, (largest, default) in limits.items():
        part = space.get(key)
        if isinstance(part, CategoricalDistribution):
            kept = [
                choice for choice in part.choices if not str(choice).isdigit() or int(str(choice)) <= largest
            ]
            fitted[key] = CategoricalDistribution(kept or [str(default)])
        elif isinstance(part, IntDistribution) and part.high > largest:
            fitted[key] = IntDistribution(min(part.low, largest), largest, log=part.log)
        if fitted.get(key) != part:
            log.info(
                "%s: searching %s instead of %s, because of the number of samples", key, fitted[key], part
            )
    return fitted


def quoted(path: Path) -> str:
    """Quote a path as the value of an override."""
    text = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"
