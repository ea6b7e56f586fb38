"""MLP, encoder and decoder: shapes, what is in them, and where the linear paths run."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gtex_vae.nn.decoder import Decoder
from gtex_vae.nn.dropout import Dropout
from gtex_vae.nn.encoder import LOG_VAR_RANGE, Encoder
from gtex_vae.nn.linear import Linear
from gtex_vae.nn.mlp import ACTIVATIONS, MLP, NORMS, xavier_linear

PLAIN: dict[str, Any] = {"norm": "none", "activation": "elu", "dropout": 0.0}


@settings(max_examples=30)
@given(
    n_in=st.integers(1, 12),
    hidden_dims=st.lists(st.integers(1, 9), max_size=4),
    norm=st.sampled_from([*NORMS, "none"]),
    activation=st.sampled_from(list(ACTIVATIONS)),
    dropout=st.sampled_from([0.0, 0.5]),
)
def test_any_widths(n_in: int, hidden_dims: list[int], norm: Any, activation: Any, dropout: float) -> None:
    mlp = MLP(n_in, hidden_dims, norm=norm, activation=activation, dropout=dropout)
    assert mlp.out_features == [n_in, *hidden_dims][-1]
    assert mlp(torch.randn(3, n_in)).shape == (3, mlp.out_features)
    kinds = [type(layer) for layer in mlp]
    each = [Linear, *([NORMS[norm]] if norm != "none" else []), ACTIVATIONS[activation]]
    each += [Dropout] if dropout else []
    assert kinds == each * len(hidden_dims)


def test_empty_mlp_is_the_identity() -> None:
    x = torch.randn(4, 6)
    assert torch.equal(MLP(6, [], norm="batch", activation="elu", dropout=0.9)(x), x)


@pytest.mark.parametrize(("norm", "has_bias"), [("batch", False), ("layer", False), ("none", True)])
def test_no_bias_in_front_of_a_norm(norm: Any, has_bias: bool) -> None:
    mlp = MLP(5, [4, 3], norm=norm, activation="elu", dropout=0.0)
    assert [layer.bias is not None for layer in mlp if isinstance(layer, nn.Linear)] == [has_bias] * 2


def test_glorot_uniform_weights() -> None:
    torch.manual_seed(0)
    linear = xavier_linear(300, 500)
    bound = math.sqrt(6.0 / (300 + 500))
    assert linear.weight.abs().max() <= bound
    assert float(linear.weight.detach().std()) == pytest.approx(bound / math.sqrt(3.0), rel=0.02)
    assert not linear.bias.any()


def test_dropout_works_in_training_only() -> None:
    torch.manual_seed(0)
    mlp = MLP(4, [2000], norm="none", activation="elu", dropout=0.3)
    x = torch.randn(1, 4)
    assert float((mlp(x) == 0.0).float().mean()) == pytest.approx(0.3, abs=0.05)
    mlp.eval()
    assert torch.equal(mlp(x), mlp(x))
    assert not (mlp(x) == 0.0).any()


@pytest.mark.parametrize("linear_skip", [True, False])
def test_skip_is_added_to_the_mean_and_to_nothing_else(linear_skip: bool) -> None:
    torch.manual_seed(0)
    encoder = Encoder(8, 3, [5], linear_skip=linear_skip, **PLAIN)
    decoder = Decoder(3, 8, [5], linear_skip=linear_skip, **PLAIN)
    x_ng = torch.randn(6, 8)
    mu_nd, log_var_nd = encoder(x_ng)
    x_hat_ng = decoder(mu_nd)
    for part in (encoder, decoder):
        assert (part.skip is not None) == linear_skip
        if part.skip is not None:
            nn.init.zeros_(part.skip.weight)
    changed = not torch.equal(encoder(x_ng)[0], mu_nd), not torch.equal(decoder(mu_nd), x_hat_ng)
    assert changed == (linear_skip, linear_skip)
    assert torch.equal(encoder(x_ng)[1], log_var_nd)


@pytest.mark.parametrize("hidden_dims", [[], [6]])
def test_encoder_is_affine_exactly_where_it_has_no_hidden_layer(hidden_dims: list[int]) -> None:
    torch.manual_seed(0)
    encoder = Encoder(10, 3, hidden_dims, linear_skip=True, **PLAIN).double()
    decoder = Decoder(3, 10, hidden_dims, linear_skip=True, **PLAIN).double()
    x, y = torch.randn(2, 4, 10, dtype=torch.float64)
    z, w = torch.randn(2, 4, 3, dtype=torch.float64)
    for f, (a, b) in ((lambda x: encoder(x)[0], (x, y)), (decoder, (z, w))):
        defect = (f(0.3 * a + 0.7 * b) - 0.3 * f(a) - 0.7 * f(b)).abs().max()
        assert (defect < 1e-12) == (not hidden_dims)


def test_log_variance_is_kept_in_range() -> None:
    encoder = Encoder(4, 2, [], linear_skip=False, **PLAIN)
    with torch.no_grad():
        encoder.log_var.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]]))
    _, log_var_nd = encoder(torch.tensor([[1e6, 0, 0, 0]]))
    assert log_var_nd.tolist() == [[LOG_VAR_RANGE[1], LOG_VAR_RANGE[0]]]
    # half precision can hold the variance at both ends
    assert torch.tensor(LOG_VAR_RANGE).exp().half().isfinite().all()
    assert (torch.tensor(LOG_VAR_RANGE).exp().half() > 0).all()


@pytest.mark.parametrize(("norm", "activation"), itertools.product([*NORMS, "none"], ACTIVATIONS))
def test_samples_do_not_see_each_other_in_evaluation(norm: Any, activation: Any) -> None:
    torch.manual_seed(0)
    encoder = Encoder(7, 2, [6, 5], linear_skip=True, norm=norm, activation=activation, dropout=0.2)
    encoder(torch.randn(16, 7))
    encoder.eval()
    x_ng = torch.randn(5, 7)
    together = encoder(x_ng)[0]
    alone = torch.cat([encoder(x_ng[i : i + 1])[0] for i in range(5)])
    torch.testing.assert_close(together, alone)
