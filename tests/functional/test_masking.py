"""Masks that hide entries of the input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gtex_vae.functional.masking import draw_observed, draw_ratio, hide
from gtex_vae.functional.seeds import step_seed

seeds = st.integers(0, 2**63 - 1)


def test_hide_rescales_the_rest_by_the_kept_fraction_of_each_sample() -> None:
    x_ng = torch.arange(1.0, 9.0).view(2, 4)
    observed_ng = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
    expected = [[4 / 3, 0.0, 4.0, 16 / 3], [0.0, 0.0, 0.0, 32.0]]
    torch.testing.assert_close(hide(x_ng, observed_ng), torch.tensor(expected))


def test_hide_takes_booleans_alike() -> None:
    x_ng, observed_ng = torch.randn(5, 9), torch.rand(5, 9) < 0.7
    torch.testing.assert_close(hide(x_ng, observed_ng), hide(x_ng, observed_ng.float()))


def test_whole_input_comes_back_as_it_is_and_nothing_observed_as_zeros() -> None:
    x_ng = torch.randn(3, 11)
    assert torch.equal(hide(x_ng, torch.ones(3, 11)), x_ng)
    assert torch.equal(hide(x_ng, torch.zeros(3, 11)), torch.zeros(3, 11))


@pytest.mark.parametrize("ratio", [0.05, 0.25, 0.8])
def test_expected_input_of_a_layer_does_not_depend_on_the_ratio(ratio: float) -> None:
    torch.manual_seed(0)
    w_g = torch.randn(50)
    x_ng = (1.0 + torch.rand(50)).expand(40_000, 50)
    products = hide(x_ng, draw_observed(x_ng, ratio)) @ w_g
    standard_error = float(products.std()) / math.sqrt(len(products))
    assert float(products.mean()) == pytest.approx(float(x_ng[0] @ w_g), abs=4 * standard_error)


@pytest.mark.parametrize("ratio", [0.0, 0.05, 0.25, 1.0])
def test_observed_is_zero_or_one_in_the_asked_proportion(ratio: float) -> None:
    torch.manual_seed(1)
    observed_ng = draw_observed(torch.empty(500, 400), ratio)
    assert set(observed_ng.unique().tolist()) <= {0.0, 1.0}
    standard_error = math.sqrt(ratio * (1.0 - ratio) / observed_ng.numel())
    assert abs(float(observed_ng.mean()) - (1.0 - ratio)) <= 5 * standard_error
    # entry by entry: no gene and no sample is hidden more than the others
    for mean in (observed_ng.mean(0), observed_ng.mean(1)):
        assert (mean - (1.0 - ratio)).abs().max() <= 5.5 * math.sqrt(ratio * (1.0 - ratio) / 400)


@given(low=st.floats(0.0, 0.5), width=st.floats(0.0, 0.4), whole=st.floats(0.0, 1.0), seed=seeds)
def test_ratio_is_zero_or_in_range_and_a_function_of_the_seed(
    low: float, width: float, whole: float, seed: int
) -> None:
    ratio = draw_ratio(low, low + width, whole, seed)
    assert ratio == 0.0 or low <= ratio <= low + width
    assert ratio == draw_ratio(low, low + width, whole, seed)


def test_share_of_whole_batches_and_spread_of_the_others() -> None:
    ratios = np.array([draw_ratio(0.05, 0.25, 0.2, step_seed(7, step)) for step in range(4000)])
    assert abs((ratios == 0.0).mean() - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 4000)
    masked = ratios[ratios > 0.0]
    assert abs(masked.mean() - 0.15) < 4 * (0.2 / math.sqrt(12 * len(masked)))
    quarters, _ = np.histogram(masked, bins=4, range=(0.05, 0.25))
    assert quarters.min() > 0.9 * len(masked) / 4
    assert draw_ratio(0.05, 0.25, 1.0, 3) == 0.0
    assert all(draw_ratio(0.05, 0.25, 0.0, seed) > 0.0 for seed in range(200))
