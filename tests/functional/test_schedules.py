"""Schedules against closed forms, and the properties that any schedule of its kind must have."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gtex_vae.functional.schedules import (
    STEEPNESS,
    Shape,
    kl_capacity,
    kl_weight,
    ramp,
    warmup_cosine,
    warmup_end,
)

SHAPES = get_args(Shape)
RISING = tuple(shape for shape in SHAPES if shape != "constant")
fractions = st.floats(0.0, 1.0)
schedules = st.fixed_dictionaries(
    {
        "shape": st.sampled_from(SHAPES),
        "beta": st.floats(0.0, 10.0),
        "start": st.floats(0.0, 0.9),
        "cycles": st.floats(0.2, 20.0),
        "ratio": st.floats(0.05, 1.0),
        "decay": st.floats(0.1, 1.0),
        "floor": st.floats(0.0, 0.1),
    }
)


def logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


# closed forms at a quarter, half and three quarters of the way
HALF_UP = {
    "constant": (1.0, 1.0, 1.0),
    "linear": (0.25, 0.5, 0.75),
    "cosine": (0.5 - math.sqrt(0.5) / 2, 0.5, 0.5 + math.sqrt(0.5) / 2),
    "exponential": tuple((math.exp(5 * t) - 1) / (math.exp(5) - 1) for t in (0.25, 0.5, 0.75)),
    "sigmoid": tuple(
        (logistic(10 * (t - 0.5)) - logistic(-5)) / (logistic(5) - logistic(-5)) for t in (0.25, 0.5, 0.75)
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_ramp_closed_forms(shape: Shape) -> None:
    assert [ramp(t, shape) for t in (0.25, 0.5, 0.75)] == pytest.approx(HALF_UP[shape], rel=1e-12)


@pytest.mark.parametrize("shape", RISING)
def test_ramp_reaches_both_ends_exactly_and_stays_there(shape: Shape) -> None:
    assert [ramp(t, shape) for t in (-3.0, 0.0)] == [0.0, 0.0]
    assert [ramp(t, shape) for t in (1.0, 7.0)] == pytest.approx([1.0, 1.0], abs=1e-12)


@given(shape=st.sampled_from(SHAPES), a=st.floats(-1.0, 2.0), b=st.floats(-1.0, 2.0))
def test_ramp_is_monotone_and_bounded(shape: Shape, a: float, b: float) -> None:
    low, high = ramp(min(a, b), shape), ramp(max(a, b), shape)
    assert -1e-12 <= low <= high + 1e-12 <= 1.0 + 2e-12


@given(t=fractions)
def test_symmetric_shapes_mirror_and_exponential_starts_flat(t: float) -> None:
    for shape in ("linear", "cosine", "sigmoid"):
        assert ramp(t, shape) + ramp(1.0 - t, shape) == pytest.approx(1.0, abs=1e-12)  # type: ignore[arg-type]
    assert ramp(t, "exponential") <= t + 1e-12
    # constant relative growth: d ln(r (e^k - 1) + 1) / dt = k
    assert math.log1p(ramp(t, "exponential") * math.expm1(STEEPNESS)) == pytest.approx(
        STEEPNESS * t, abs=1e-9
    )


def test_unknown_shape_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"shape='quadratic' is not one of constant, linear"):
        ramp(0.5, "quadratic")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("beta", "start", "ratio"), [(1.0, 0.0, 0.25), (4.0, 0.2, 0.5), (0.3, 0.5, 1.0)])
def test_one_cycle_is_start_ramp_hold(shape: Shape, beta: float, start: float, ratio: float) -> None:
    def weight(progress: float) -> float:
        return kl_weight(progress, shape=shape, beta=beta, start=start, ratio=ratio)

    top = start + (1.0 - start) * ratio
    for t in (0.0, 0.25, 0.5, 0.75):
        assert weight(start + t * (top - start) + 1e-12) == pytest.approx(beta * ramp(t, shape), abs=1e-9)
    for progress in (top, (top + 1.0) / 2, 1.0):
        assert weight(progress) == pytest.approx(beta, abs=1e-9)
    if start:
        assert weight(0.0) == weight(start - 1e-9) == 0.0


def test_constant_is_beta_from_the_first_step() -> None:
    assert kl_weight(0.0, shape="constant", beta=0.7) == 0.7


# Fu et al. (2019), eq. 6-7: M cycles of T/M steps, rising linearly over the first R of each
@pytest.mark.parametrize(("cycles", "ratio"), [(4, 0.5), (10, 0.25), (1, 1.0)])
def test_cyclical_annealing_of_fu_et_al(cycles: int, ratio: float) -> None:
    total = 1000
    for step in range(total):
        length = total / cycles
        tau = (step % length) / length
        expected = tau / ratio if tau <= ratio else 1.0
        assert kl_weight(step / total, cycles=cycles, ratio=ratio) == pytest.approx(expected, abs=1e-9)


def test_published_beta_vae_style_schedule() -> None:
    """Each 40-epoch cycle of 300 epochs ramps 0 to 1, then shrinks by decay**cycle, never below the floor."""
    epochs, cycle_epochs, decay, floor = 300, 40, 0.7, 0.01
    published: dict[str, Any] = {
        "cycles": epochs / cycle_epochs,
        "ratio": 1.0,
        "decay": decay,
        "floor": floor,
    }
    for epoch in range(epochs):
        cycle, within = divmod(epoch, cycle_epochs)
        expected = max(floor, decay**cycle * within / cycle_epochs)
        assert kl_weight(epoch / epochs, **published) == pytest.approx(expected, abs=1e-9)
    # the half cycle at the end is cut off in the middle of its rise
    assert kl_weight(1.0, **published) == pytest.approx(decay**7 * 0.5)


@pytest.mark.parametrize("cycles", [1, 2, 4, 2.5])
def test_end_of_training_belongs_to_the_last_cycle(cycles: float) -> None:
    last = math.ceil(cycles) - 1
    expected = 0.5**last * ramp((cycles - last) / 0.4, "linear")
    assert kl_weight(1.0, cycles=cycles, ratio=0.4, decay=0.5) == pytest.approx(expected)


@given(schedule=schedules, progress=fractions)
def test_weight_lies_between_floor_and_top(schedule: dict[str, Any], progress: float) -> None:
    weight = kl_weight(progress, **schedule)
    assert schedule["floor"] <= weight <= max(schedule["floor"], schedule["beta"]) * (1.0 + 1e-12)


@given(schedule=schedules, order=st.permutations(range(11)))
def test_weight_is_a_pure_function_of_progress(schedule: dict[str, Any], order: list[int]) -> None:
    forward = [kl_weight(i / 10, **schedule) for i in range(11)]
    assert [kl_weight(i / 10, **schedule) for i in order] == [forward[i] for i in order]


@given(schedule=schedules, a=fractions, b=fractions)
def test_weight_never_falls_within_a_cycle(schedule: dict[str, Any], a: float, b: float) -> None:
    schedule |= {"start": 0.0}
    a, b = min(a, b), max(a, b)
    assume(math.floor(schedule["cycles"] * a) == math.floor(schedule["cycles"] * b))
    assert kl_weight(a, **schedule) <= kl_weight(b, **schedule) + 1e-12


SAWTOOTH = {"shape": "linear", "start": 0.0, "cycles": 2.0, "ratio": 1.0, "decay": 1.0}


@given(schedule=schedules)
@example(schedule=SAWTOOTH)
@example(schedule=SAWTOOTH | {"ratio": 1.0 - 1e-10})
@example(schedule=SAWTOOTH | {"cycles": 1.0})
def test_warmup_ends_at_the_first_top(schedule: dict[str, Any]) -> None:
    schedule = schedule | {"floor": 0.0, "beta": 1.0}
    start = schedule["start"]
    end = warmup_end(**{key: schedule[key] for key in ("shape", "start", "cycles", "ratio")})
    assert start <= end <= 1.0
    if end < 1.0:
        assert kl_weight(max(start, end - 1e-12), **schedule) == pytest.approx(1.0, abs=1e-6)
        if schedule["ratio"] < 0.999:  # with ratio=1 the next cycle starts here, at 0
            assert kl_weight(min(1.0, end + 1e-9), **schedule) == pytest.approx(1.0, abs=1e-6)
    if schedule["shape"] != "constant":
        assert kl_weight(start + 0.5 * (end - start), **schedule) < 0.99


def test_capacity_of_burgess_et_al() -> None:
    """C rises linearly from 0 to its maximum over the first part of training and stays (Burgess, section 5)."""
    values = [kl_capacity(p, capacity=25.0, ratio=0.5) for p in (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)]
    assert values == pytest.approx([0.0, 6.25, 12.5, 25.0, 25.0, 25.0])


@pytest.mark.parametrize(("warmup", "final"), [(0.0, 0.0), (0.1, 0.0), (0.25, 0.1), (0.5, 1.0)])
def test_warmup_cosine_closed_form(warmup: float, final: float) -> None:
    for i in range(101):
        p = i / 100
        cosine = final + (1 - final) * (1 + math.cos(math.pi * (p - warmup) / (1 - warmup))) / 2
        expected = p / warmup if p < warmup else cosine
        assert warmup_cosine(p, warmup=warmup, final=final) == pytest.approx(expected, abs=1e-12)
