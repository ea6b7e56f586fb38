"""Terms of the ELBO against torch.distributions and against calculus."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from gtex_vae.functional.elbo import (
    free_bits,
    gaussian_nll,
    kl_standard_normal,
    optimal_gaussian_nll,
    sample_posterior,
)


def normal_parameters(n: int = 64, d: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mu_nd = 3.0 * torch.randn(n, d, generator=generator, dtype=torch.float64)
    return mu_nd, 2.0 * torch.randn(n, d, generator=generator, dtype=torch.float64)


def test_kl_is_that_of_torch_distributions() -> None:
    mu_nd, log_var_nd = normal_parameters()
    expected = kl_divergence(Normal(mu_nd, (0.5 * log_var_nd).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_standard_normal(mu_nd, log_var_nd), expected, rtol=1e-12, atol=1e-12)


def test_kl_is_the_mean_log_ratio_of_its_own_samples() -> None:
    mu, log_var = torch.tensor(0.8, dtype=torch.float64), torch.tensor(-1.0, dtype=torch.float64)
    torch.manual_seed(0)
    z = sample_posterior(mu.expand(200_000), log_var.expand(200_000))
    ratio = Normal(mu, (0.5 * log_var).exp()).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    standard_error = float(ratio.std() / math.sqrt(len(ratio)))
    assert float(ratio.mean()) == pytest.approx(
        float(kl_standard_normal(mu, log_var)), abs=4 * standard_error
    )


@given(log_var=st.floats(-12.0, 6.0, width=32), mu=st.floats(-10.0, 10.0, width=32))
def test_kl_is_never_negative_in_single_precision(log_var: float, mu: float) -> None:
    assert kl_standard_normal(torch.tensor(mu), torch.tensor(log_var)) >= 0.0


def test_kl_near_the_prior_keeps_its_precision() -> None:
    """A collapsed dimension has log variance near 0, where e^v - 1 - v is v^2 / 2."""
    log_var = torch.logspace(-4, -1, 400)
    log_var = torch.cat([log_var, -log_var])
    kl = kl_standard_normal(torch.zeros_like(log_var), log_var)
    exact = kl_standard_normal(torch.zeros_like(log_var).double(), log_var.double())
    assert (kl >= 0.0).all()
    torch.testing.assert_close(kl.double(), exact, rtol=2e-3, atol=0.0)


def test_kl_is_zero_only_at_the_prior() -> None:
    zero = torch.zeros(1, 3)
    assert kl_standard_normal(zero, zero).abs().max() == 0.0
    assert kl_standard_normal(zero + 1e-2, zero).min() > 0.0
    assert kl_standard_normal(zero, zero + 1e-2).min() > 0.0


def test_posterior_samples_have_the_right_moments() -> None:
    n = 200_000
    mu_d, log_var_d = torch.tensor([-2.0, 0.0, 5.0]), torch.tensor([-3.0, 0.0, 1.5])
    torch.manual_seed(1)
    z_nd = sample_posterior(mu_d.expand(n, 3), log_var_d.expand(n, 3))
    sd_d = (0.5 * log_var_d).exp()
    assert ((z_nd.mean(0) - mu_d).abs() < 5.0 * sd_d / math.sqrt(n)).all()
    # the standard error of a Gaussian's sample variance is sqrt(2 / n) of it
    assert ((z_nd.var(0) / sd_d**2 - 1.0).abs() < 5.0 * math.sqrt(2.0 / n)).all()
    centred = (z_nd - z_nd.mean(0)) / z_nd.std(0)
    assert (centred.T @ centred / n - torch.eye(3)).abs().max() < 5.0 / math.sqrt(n)


def test_posterior_samples_are_differentiable_in_both_arguments() -> None:
    mu_nd, log_var_nd = (t.float().requires_grad_() for t in normal_parameters(5, 3))
    torch.manual_seed(2)
    z_nd = sample_posterior(mu_nd, log_var_nd)
    z_nd.sum().backward()
    # z = mu + e^(v/2) eps, so dz/dmu = 1 and dz/dv = (z - mu) / 2
    torch.testing.assert_close(mu_nd.grad, torch.ones_like(mu_nd))
    torch.testing.assert_close(log_var_nd.grad, 0.5 * (z_nd - mu_nd).detach())


def test_free_bits_of_zero_are_the_plain_mean_kl() -> None:
    kl_nd = kl_standard_normal(*normal_parameters())
    torch.testing.assert_close(free_bits(kl_nd, 0.0), kl_nd.sum(1).mean())


def test_free_bits_floor_each_dimension_and_stop_its_gradient() -> None:
    kl_nd = torch.tensor([[0.1, 0.4, 3.0], [0.1, 0.8, 1.0]], requires_grad=True)  # means 0.1, 0.6, 2.0
    total = free_bits(kl_nd, 0.5)
    assert total.item() == pytest.approx(0.5 + 0.6 + 2.0)
    total.backward()
    assert kl_nd.grad is not None
    assert kl_nd.grad.tolist() == [[0.0, 0.5, 0.5]] * 2


def test_gaussian_nll_is_that_of_torch_distributions() -> None:
    x, log_var = normal_parameters()
    mean = torch.linspace(-1.0, 1.0, x.shape[1], dtype=torch.float64)
    expected = -Normal(mean, (0.5 * log_var).exp()).log_prob(x)
    torch.testing.assert_close(gaussian_nll((x - mean).square(), log_var), expected, rtol=1e-12, atol=1e-12)


@given(mse=st.floats(1e-4, 1e4), offset=st.floats(-3.0, 3.0))
def test_optimal_sigma_is_the_minimum_over_sigma(mse: float, offset: float) -> None:
    error = torch.tensor(mse, dtype=torch.float64)
    best = optimal_gaussian_nll(error)
    assert float(gaussian_nll(error, error.log())) == pytest.approx(float(best), rel=1e-12)
    # exactly: NLL(log MSE + u) - minimum = (e^-u - 1 + u) / 2, positive everywhere but at u = 0
    excess = 0.5 * (math.expm1(-offset) + offset)
    assert float(gaussian_nll(error, error.log() + offset) - best) == pytest.approx(excess, abs=1e-9)


def test_optimal_sigma_gradient_is_that_at_the_fixed_optimum() -> None:
    """The envelope theorem: moving sigma along adds nothing to the gradient at its optimum."""
    mse = torch.tensor(0.37, dtype=torch.float64, requires_grad=True)
    (moving,) = torch.autograd.grad(optimal_gaussian_nll(mse), mse)
    (fixed,) = torch.autograd.grad(gaussian_nll(mse, mse.detach().log()), mse)
    torch.testing.assert_close(moving, fixed)
