"""Seeds that depend only on the run's seed and the step."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gtex_vae.functional.masking import draw_observed
from gtex_vae.functional.seeds import seed_generators, step_seed

seeds = st.integers(0, 2**63 - 1)
counters = st.integers(0, 2**31)


@given(seed=seeds)
def test_seeded_generators_draw_what_they_draw_after_torchs_own_seeding(seed: int) -> None:
    torch.manual_seed(seed)
    expected = torch.rand(3)
    torch.manual_seed(seed ^ 1)
    assert not torch.equal(torch.rand(3), expected)
    seed_generators(seed, torch.device("cpu"))
    assert torch.equal(torch.rand(3), expected)


@given(seed=seeds, step=counters, rank=st.integers(0, 64))
def test_step_seeds_differ_for_each_counter(seed: int, step: int, rank: int) -> None:
    found = step_seed(seed, step, rank)
    assert 0 <= found < 2**63
    others = [
        step_seed(seed, step + 1, rank), step_seed(seed, step, rank + 1), step_seed(seed + 1, step, rank),
        step_seed(seed, step), step_seed(seed, step, rank, 1),
    ]  # fmt: skip
    assert found not in others


def test_neighbouring_step_seeds_are_independent() -> None:
    bits = np.array([[step_seed(0, step) >> bit & 1 for bit in range(63)] for step in range(800)])
    assert len({step_seed(seed, step) for seed in range(50) for step in range(50)}) == 2500
    assert abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / math.sqrt(800)
    flips = (bits[1:] != bits[:-1]).mean(0)
    assert abs(flips - 0.5).max() < 5 * 0.5 / math.sqrt(800)


@given(others=st.lists(st.integers(1, 20), max_size=5))
def test_same_step_gives_the_same_mask_whatever_was_drawn_before(others: list[int]) -> None:
    x_ng = torch.empty(4, 30)
    torch.manual_seed(step_seed(3, 17))
    expected = draw_observed(x_ng, 0.2)
    for count in others:
        torch.randn(count)
    torch.manual_seed(step_seed(3, 17))
    assert torch.equal(draw_observed(x_ng, 0.2), expected)
