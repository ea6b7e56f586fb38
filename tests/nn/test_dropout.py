"""Dropout: how often, which ones, and the gradient of those that stay."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gtex_vae.nn.dropout import Dropout


@given(n=st.integers(1, 40), h=st.integers(1, 40), p=st.floats(0.0, 0.99), seed=st.integers(0, 2**31))
def test_units_are_dropped_or_scaled_up(n: int, h: int, p: float, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.rand(n, h) + 1.0
    y = Dropout(p)(x)
    kept = y != 0.0
    torch.testing.assert_close(y[kept], x[kept] / (1.0 - p), rtol=2e-3, atol=0.0)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.9])
def test_each_place_is_dropped_as_often_as_asked(p: float) -> None:
    """Each of the four places of a draw on its own, and any two neighbours together."""
    torch.manual_seed(0)
    n = 200_000
    dropped = Dropout(p)(torch.ones(n, 4)) == 0.0
    tolerance = 5.0 * math.sqrt(p * (1.0 - p) / n)
    assert (dropped.double().mean(0) - p).abs().max() < tolerance
    of_both = (dropped[:, 1:] & dropped[:, :-1]).double().mean(0)
    assert (of_both - p**2).abs().max() < tolerance


def test_the_gradient_passes_where_the_value_does() -> None:
    torch.manual_seed(0)
    x = torch.randn(30, 50, requires_grad=True)
    y = Dropout(0.4)(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient * x, y)
    assert 0 < int((gradient == 0.0).sum()) < x.numel()


def test_the_same_seed_gives_the_same_mask() -> None:
    layer, x = Dropout(0.5), torch.ones(9, 7)
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(layer(x))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_keep_their_type_and_their_mean(dtype: torch.dtype) -> None:
    """The factor is not rounded to bfloat16, where 1 / 0.9 is off by a five-hundredth."""
    torch.manual_seed(0)
    x = torch.rand(1000, 1000).to(dtype)
    y = Dropout(0.1)(x)
    assert y.dtype == dtype
    assert float(y.double().mean()) == pytest.approx(float(x.double().mean()), rel=1e-3)


def test_nothing_is_dropped_in_evaluation() -> None:
    x = torch.randn(5, 6)
    assert Dropout(0.5).eval()(x) is x
