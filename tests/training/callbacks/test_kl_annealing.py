"""Callbacks that set beta, capacity and mask ratio as functions of the step, and callbacks that depend on the warm-up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gtex_vae.errors import ConfigError
from gtex_vae.functional.schedules import kl_capacity, kl_weight
from gtex_vae.training.callbacks.checkpoints import BestCheckpoint
from gtex_vae.training.callbacks.early_stopping import PatientStopping
from gtex_vae.training.callbacks.kl_annealing import KLAnnealing, in_warmup
from gtex_vae.training.callbacks.masking import Masking

STEPS = 200


def trainer(step: int = 0, *callbacks: Any) -> Any:
    return SimpleNamespace(
        global_step=step, estimated_stepping_batches=STEPS, callbacks=list(callbacks), sanity_checking=False,
        callback_metrics={"loss": 1.0, "val/loss": 1.0, "val/r2": 0.5},
    )  # fmt: skip


def module(step: int = 0, seed: int = 0) -> Any:
    return SimpleNamespace(seed=seed, batches_seen=step, beta=1.0, capacity=None, mask_ratio=0.0)


def at(callback: Any, steps: range) -> list[Any]:
    """Return the module after each step."""
    if isinstance(callback, KLAnnealing):
        callback.on_train_start(trainer(steps[0]), module())
    seen = []
    for step in steps:
        seen.append(module(step))
        callback.on_train_batch_start(trainer(step), seen[-1], None, 0)
    return seen


def test_beta_is_the_schedule_at_each_step() -> None:
    settings: dict[str, Any] = {
        "shape": "cosine",
        "beta": 2.0,
        "start": 0.1,
        "cycles": 3,
        "ratio": 0.5,
        "decay": 0.7,
    }
    betas = [m.beta for m in at(KLAnnealing(**settings), range(STEPS))]
    assert betas == [kl_weight(step / STEPS, **settings) for step in range(STEPS)]
    assert all(m.capacity is None for m in at(KLAnnealing(), range(3)))


def test_capacity_is_its_schedule_and_leaves_the_weight_alone() -> None:
    seen = at(KLAnnealing("constant", beta=100.0, capacity=25.0, ratio=0.5), range(STEPS))
    assert [m.capacity for m in seen] == [
        kl_capacity(s / STEPS, capacity=25.0, ratio=0.5) for s in range(STEPS)
    ]
    assert {m.beta for m in seen} == {100.0}


def test_resumed_in_the_middle_nothing_is_different() -> None:
    for make in (lambda: KLAnnealing(cycles=4, decay=0.5), Masking):
        whole = at(make(), range(STEPS))
        resumed = at(make(), range(77, STEPS))
        assert [vars(m) for m in resumed] == [vars(m) for m in whole[77:]]


def test_mask_ratios_depend_on_seed_and_step() -> None:
    ratios = [m.mask_ratio for m in at(Masking(), range(STEPS))]
    assert all(ratio == 0.0 or 0.05 <= ratio <= 0.25 for ratio in ratios)
    assert len(set(ratios)) > STEPS / 2
    assert 0.1 < ratios.count(0.0) / STEPS < 0.3
    other = module(0, seed=1)
    Masking(whole=0.0).on_train_batch_start(trainer(), other, None, 0)
    assert other.mask_ratio not in [m.mask_ratio for m in at(Masking(whole=0.0), range(STEPS))]


@pytest.mark.parametrize(
    ("settings", "end"),
    [({}, 50), ({"ratio": 1.0}, 200), ({"start": 0.5, "ratio": 0.5}, 150), ({"shape": "constant"}, 0), ({"cycles": 4}, 13)],
)  # fmt: skip
def test_warmup_lasts_until_the_weight_has_been_at_its_top(settings: dict[str, Any], end: int) -> None:
    callback = KLAnnealing(**settings)
    inside = [in_warmup(trainer(step, callback)) for step in range(STEPS + 1)]
    assert inside == [step < end for step in range(STEPS + 1)]
    assert not in_warmup(trainer(0))  # no annealing, no warm-up


def test_early_stopping_does_not_look_during_the_warmup(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    monkeypatch.setattr(
        "lightning.pytorch.callbacks.EarlyStopping.on_validation_end",
        lambda self, trainer, pl_module: looked.append(trainer.global_step),
    )
    stopping, annealing = PatientStopping(), KLAnnealing(ratio=0.25)
    for step in (0, 49, 50, 120):
        stopping.on_validation_end(trainer(step, stopping, annealing), module())
    assert looked == [50, 120]


@pytest.mark.parametrize(
    ("watching", "name"),
    [(PatientStopping("val/los"), "early_stopping"), (BestCheckpoint("val/los"), "best")],
)
def test_a_metric_that_is_not_measured_is_refused_by_the_first_validation(watching: Any, name: str) -> None:
    message = rf"callbacks.{name}.monitor=val/los is not a validation metric; did you mean 'val/loss'\?"
    with pytest.raises(ConfigError, match=message):
        watching.on_validation_end(trainer(0, watching, KLAnnealing()), module())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("beta", -1.0), ("beta", float("nan")), ("start", 1.0), ("start", -0.1), ("cycles", 0.0), ("ratio", 0.0),
        ("ratio", 1.1), ("decay", 0.0), ("decay", 1.1), ("floor", -0.1), ("capacity", 0.0),
    ],
)  # fmt: skip
def test_impossible_annealing_names_its_key(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^callbacks.kl_annealing.{key}={value} is impossible"):
        KLAnnealing(**{key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings", [{"low": -0.1}, {"low": 0.3, "high": 0.2}, {"high": 1.0}, {"whole": 1.1}, {"whole": -0.1}]
)
def test_impossible_masking_names_its_key(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"^callbacks.masking"):
        Masking(**settings)
