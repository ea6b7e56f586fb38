"""Search spaces: from Hydra's sweep grammar to optuna's distributions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from gtex_vae.errors import ConfigError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


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


def quoted(path: Path) -> str:
    """Quote a path as the value of an override."""
    text = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"
