"""The objective: its parts, its variants, and what each of them weighs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gtex_vae.errors import ConfigError
from gtex_vae.functional.elbo import kl_standard_normal
from gtex_vae.functional.masking import draw_observed
from gtex_vae.models.objective import Objective
from gtex_vae.models.vae import VAEOutput
from gtex_vae.nn.likelihoods import LIKELIHOODS, PerGeneVariance, SharedVariance, UnitVariance

N, G, D = 16, 10, 4


def case(seed: int = 0) -> tuple[VAEOutput, torch.Tensor]:
    """An output of a model that asks for gradients, and the data."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    mu_nd, log_var_nd = randn(N, D).requires_grad_(), (0.5 * randn(N, D)).requires_grad_()
    return VAEOutput(mu_nd, log_var_nd, mu_nd, randn(N, G).requires_grad_()), randn(N, G)


@pytest.mark.parametrize("name", LIKELIHOODS)
@given(beta=st.floats(0.0, 5.0))
def test_loss_is_the_sum_of_its_parts_per_gene(name: str, beta: float) -> None:
    output, x_ng = case()
    terms = Objective()(LIKELIHOODS[name](G), output, x_ng, beta=beta, size_n=torch.ones(N))
    expected = (float(terms.nll_nats) + beta * float(terms.kl_d.sum())) / G
    assert terms.loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", sorted(set(LIKELIHOODS) - {"negative_binomial"}))
def test_parts_are_what_they_are_called(name: str) -> None:
    output, x_ng = case()
    likelihood = LIKELIHOODS[name](G)
    terms = Objective()(likelihood, output, x_ng, beta=0.3)
    square_ng = (output.x_hat_nf - x_ng).square()
    torch.testing.assert_close(terms.mse, square_ng.mean().detach())
    torch.testing.assert_close(
        terms.kl_d, kl_standard_normal(output.mu_nd, output.log_var_nd).mean(0).detach()
    )
    again = LIKELIHOODS[name](G)  # its running moments as they were before
    torch.testing.assert_close(terms.nll_nats, G * again(output.x_hat_nf, x_ng).detach())
    reported = (terms.nll_nats, terms.kl_d, terms.mse)
    assert not any(part.requires_grad for part in reported)
    assert terms.loss.requires_grad


def test_at_beta_one_it_is_the_negative_elbo_of_torch_distributions() -> None:
    from torch.distributions import Independent, Normal, kl_divergence

    output, x_ng = case()
    terms = Objective()(UnitVariance(G), output, x_ng, beta=1.0)
    log_likelihood_n = Independent(Normal(output.x_hat_nf, 1.0), 1).log_prob(x_ng)
    posterior = Independent(Normal(output.mu_nd, (0.5 * output.log_var_nd).exp()), 1)
    kl_n = kl_divergence(posterior, Independent(Normal(torch.zeros(D), 1.0), 1))
    torch.testing.assert_close(G * terms.loss, -(log_likelihood_n - kl_n).mean())


@pytest.mark.parametrize("beta", [0.0, 0.01, 1.0])
def test_mean_reduction_is_half_the_published_loss_up_to_a_constant(beta: float) -> None:
    """mse + w mean(KL) = 2 (loss - ln(2 pi) / 2), so G / 2 times the published loss is nats per sample."""
    output, x_ng = case()
    loss = Objective(kl_reduction="mean")(UnitVariance(G), output, x_ng, beta=beta).loss
    kl_nd = kl_standard_normal(output.mu_nd, output.log_var_nd)
    published = torch.nn.functional.mse_loss(output.x_hat_nf, x_ng) + beta * kl_nd.mean()
    torch.testing.assert_close(G * loss, G / 2 * published + G / 2 * math.log(2 * math.pi))
    # the same optimum: gradients differ by the factor alone
    leaves = (output.x_hat_nf, output.mu_nd, output.log_var_nd)
    ours = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
    theirs = torch.autograd.grad(published, leaves, allow_unused=True)
    for mine, its in zip(ours, theirs, strict=True):
        assert mine is not None
        assert its is not None
        torch.testing.assert_close(2.0 * mine, its)


def test_mean_reduction_has_the_effective_beta_that_it_says() -> None:
    output, x_ng = case()
    mean = Objective(kl_reduction="mean")(UnitVariance(G), output, x_ng, beta=0.4).loss
    summed = Objective()(UnitVariance(G), output, x_ng, beta=0.4 * G / (2 * D)).loss
    torch.testing.assert_close(mean, summed)


def test_loss_per_gene_does_not_depend_on_the_number_of_genes() -> None:
    output, x_ng = case()
    wide = VAEOutput(output.mu_nd, output.log_var_nd, output.z_nd, output.x_hat_nf.repeat(1, 50))
    few = Objective()(UnitVariance(G), output, x_ng, beta=0.0).loss
    many = Objective()(UnitVariance(50 * G), wide, x_ng.repeat(1, 50), beta=0.0).loss
    torch.testing.assert_close(few, many)


@pytest.mark.parametrize(
    ("likelihood", "share"), [(UnitVariance, 1.0), (SharedVariance, 1.0), (PerGeneVariance, 1.0)]
)
def test_hidden_share_of_one_trains_on_the_hidden_entries_alone(likelihood: Any, share: float) -> None:
    output, x_ng = case()
    torch.manual_seed(0)
    observed_ng = draw_observed(x_ng, 0.3)
    terms = Objective(hidden_share=share)(likelihood(G), output, x_ng, beta=0.0, observed_ng=observed_ng)
    (gradient_ng,) = torch.autograd.grad(terms.loss, output.x_hat_nf)
    assert not gradient_ng[observed_ng == 1].any()
    assert (gradient_ng[observed_ng == 0] != 0).all()
    if likelihood is UnitVariance:
        square_ng = (output.x_hat_nf - x_ng).square()
        expected = 0.5 * square_ng[observed_ng == 0].mean() + 0.5 * math.log(2 * math.pi)
        torch.testing.assert_close(terms.loss, expected)


@given(share=st.floats(0.0, 1.0), ratio=st.floats(0.1, 0.9))
def test_hidden_share_is_the_share_of_the_hidden_entries_weights(share: float, ratio: float) -> None:
    torch.manual_seed(0)
    observed_ng = draw_observed(torch.empty(20, 30), ratio)
    weight_ng = Objective(hidden_share=share)._weights(observed_ng)
    assert weight_ng is not None
    assert float(weight_ng.mean()) == pytest.approx(1.0, abs=1e-4)
    assert float((weight_ng * (1 - observed_ng)).mean()) == pytest.approx(share, abs=1e-4)
    assert (weight_ng >= -1e-5).all()


def test_hidden_share_matters_in_masked_batches_only_and_the_hidden_fraction_is_the_plain_loss() -> None:
    output, x_ng = case()
    plain = Objective()(UnitVariance(G), output, x_ng, beta=1.0).loss
    torch.testing.assert_close(
        Objective(hidden_share=1.0)(UnitVariance(G), output, x_ng, beta=1.0).loss, plain
    )
    observed_ng = (torch.arange(N * G).view(N, G) % 4 > 0).float()
    terms = Objective(hidden_share=0.25)(UnitVariance(G), output, x_ng, beta=1.0, observed_ng=observed_ng)
    torch.testing.assert_close(terms.loss, plain)
    # and without a share, the mask is no business of the likelihood
    torch.testing.assert_close(
        Objective()(UnitVariance(G), output, x_ng, beta=1.0, observed_ng=observed_ng).loss, plain
    )


@pytest.mark.parametrize("observed", [0.0, 1.0])
def test_batches_with_nothing_or_everything_hidden_stay_finite(observed: float) -> None:
    output, x_ng = case()
    objective = Objective(hidden_share=0.5)
    terms = objective(UnitVariance(G), output, x_ng, beta=1.0, observed_ng=torch.full((N, G), observed))
    assert terms.loss.isfinite()


@pytest.mark.parametrize("offset", [-3.0, 3.0])
def test_capacity_pulls_the_kl_towards_its_target_from_either_side(offset: float) -> None:
    output, x_ng = case()
    kl = kl_standard_normal(output.mu_nd, output.log_var_nd).sum(1).mean().item()
    likelihood, objective = UnitVariance(G), Objective()
    terms = objective(likelihood, output, x_ng, beta=2.0, capacity=kl + offset)
    assert terms.loss.item() == pytest.approx((float(terms.nll_nats) + 2.0 * abs(offset)) / G, rel=1e-5)
    (gradient,) = torch.autograd.grad(terms.loss, output.mu_nd, retain_graph=True)
    (plain,) = torch.autograd.grad(objective(likelihood, output, x_ng, beta=2.0).loss, output.mu_nd)
    torch.testing.assert_close(gradient, plain if offset < 0 else -plain)


def test_free_bits_spare_the_dimensions_below_the_floor() -> None:
    output, x_ng = case()
    kl_d = kl_standard_normal(output.mu_nd, output.log_var_nd).mean(0)
    floor = float(kl_d.sort().values[1]) + 1e-4  # two of the four dimensions lie below it
    terms = Objective(free_bits=floor)(UnitVariance(G), output, x_ng, beta=1.0)
    penalty = float(kl_d.clamp_min(floor).sum())
    assert terms.loss.item() == pytest.approx((float(terms.nll_nats) + penalty) / G, rel=1e-5)
    (gradient_nd,) = torch.autograd.grad(terms.loss, output.mu_nd)
    assert gradient_nd.any(0).tolist() == (kl_d > floor).tolist()
    # what is reported is the KL itself
    torch.testing.assert_close(terms.kl_d, kl_d.detach())


def test_half_precision_outputs_are_summed_in_single_precision() -> None:
    output, x_ng = case()
    half = VAEOutput(
        *(getattr(output, name).bfloat16() for name in ("mu_nd", "log_var_nd", "z_nd", "x_hat_nf"))
    )
    assert Objective()(UnitVariance(G), half, x_ng, beta=1.0).loss.dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"free_bits": -0.1}, "objective.free_bits=-0.1"),
        ({"hidden_share": 1.5}, "objective.hidden_share=1.5"),
        ({"hidden_share": -0.1}, "objective.hidden_share=-0.1"),
    ],
)
def test_impossible_values_name_their_key(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Objective(**arguments)
