"""Learning-rate schedules as the optimizer sees them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW, Optimizer

from gtex_vae.errors import ConfigError
from gtex_vae.training.learning_rate import reduce_on_plateau, warmup_cosine

PEAK = 0.2


def optimizer() -> Optimizer:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)


def used(steps: int, **arguments: float) -> list[float]:
    """Return the learning rate of each step of a training."""
    stepped = optimizer()
    schedule = warmup_cosine(stepped, steps, **arguments)
    assert schedule["interval"] == "step"
    rates = []
    for _ in range(steps):
        rates.append(stepped.param_groups[0]["lr"])
        stepped.step()
        schedule["scheduler"].step()
    return rates


@pytest.mark.parametrize(("warmup", "final"), [(0.0, 0.0), (0.1, 0.0), (0.25, 0.1), (0.5, 1.0)])
@pytest.mark.parametrize("steps", [7, 100])
def test_warmup_cosine_closed_form(steps: int, warmup: float, final: float) -> None:
    for step, rate in enumerate(used(steps, warmup=warmup, final=final)):
        p = (step + 0.5) / steps
        cosine = final + (1 - final) * (1 + math.cos(math.pi * (p - warmup) / (1 - warmup))) / 2
        assert rate == pytest.approx(PEAK * (p / warmup if p < warmup else cosine), rel=1e-9)


def test_no_step_is_wasted_at_either_end_and_the_peak_is_that_of_the_optimizer() -> None:
    rates = used(200, warmup=0.1, final=0.0)
    assert rates[0] == pytest.approx(PEAK / 40)
    assert min(rates) > 0.0
    assert max(rates) == pytest.approx(PEAK, rel=1e-3)
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_resumed_is_uninterrupted() -> None:
    expected = used(50, warmup=0.2)
    first = warmup_cosine(optimizer(), 50, warmup=0.2)["scheduler"]
    for _ in range(20):
        first.optimizer.step()
        first.step()
    second = warmup_cosine(optimizer(), 50, warmup=0.2)["scheduler"]
    second.load_state_dict(first.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert second.optimizer.param_groups[0]["lr"] == expected[20]
    second.optimizer.step()
    second.step()
    assert second.optimizer.param_groups[0]["lr"] == expected[21]


def test_every_group_follows() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups: list[dict[str, Any]] = [
        {"params": parameters[:1], "lr": 1.0},
        {"params": parameters[1:], "lr": 0.1},
    ]
    stepped = AdamW(groups)
    warmup_cosine(stepped, 10, warmup=0.5)
    assert [group["lr"] for group in stepped.param_groups] == pytest.approx([0.1, 0.01])


def test_plateau_waits_for_its_patience() -> None:
    stepped = optimizer()
    schedule = reduce_on_plateau(stepped, 100, factor=0.5, patience=2)
    assert (schedule["monitor"], schedule["interval"]) == ("val/loss", "epoch")
    rates = []
    for metric in (1.0, 0.5, 0.5, 0.5, 0.5, 0.4, 0.4):
        schedule["scheduler"].step(metric)
        rates.append(stepped.param_groups[0]["lr"] / PEAK)
    assert rates == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.5])


@pytest.mark.parametrize(
    ("schedule", "arguments", "message"),
    [
        (warmup_cosine, {"warmup": 1.0}, "learning_rate.warmup=1.0"),
        (warmup_cosine, {"warmup": -0.1}, "learning_rate.warmup=-0.1"),
        (warmup_cosine, {"final": 1.5}, "learning_rate.final=1.5"),
        (reduce_on_plateau, {"factor": 1.0}, "learning_rate.factor=1.0"),
        (reduce_on_plateau, {"factor": 0.0}, "learning_rate.factor=0.0"),
        (reduce_on_plateau, {"patience": -1}, "learning_rate.patience=-1"),
    ],
)
def test_impossible_values_name_their_key(schedule: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        schedule(optimizer(), 100, **arguments)
