"""Likelihoods: their densities, their variances, and where these settle."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Gamma, Normal

from gtex_vae.nn.likelihood import Likelihood
from gtex_vae.nn.likelihoods import (
    LIKELIHOODS,
    MOMENTUM,
    PerGeneVariance,
    SampleVariance,
    SharedVariance,
    UnitVariance,
)


def errors(n: int = 500, g: int = 6) -> torch.Tensor:
    """Residuals whose variance differs from gene to gene."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, g, generator=generator) * torch.linspace(0.2, 3.0, g)


def nats(likelihood: Likelihood, residual_nf: torch.Tensor, **given: torch.Tensor) -> torch.Tensor:
    """Evaluate a likelihood where the decoder's mean is off by these residuals."""
    result: torch.Tensor = likelihood(residual_nf, torch.zeros_like(residual_nf), **given)
    return result


@pytest.mark.parametrize("name", sorted(set(LIKELIHOODS) - {"per_sample", "negative_binomial"}))
def test_in_evaluation_it_is_the_normal_density_of_its_log_variance(name: str) -> None:
    likelihood = LIKELIHOODS[name](6).eval()
    with torch.no_grad():
        likelihood.log_var.copy_(torch.zeros(1) if name == "mse" else torch.tensor([-0.7]))  # type: ignore[operator, arg-type]
    residual_ng = errors()
    expected = -Normal(0.0, (0.5 * likelihood.log_var).exp()).log_prob(residual_ng).mean()  # type: ignore[operator]
    torch.testing.assert_close(nats(likelihood, residual_ng), expected)


def test_unit_variance_is_half_the_mse_up_to_a_constant() -> None:
    square_ng = errors().square()
    expected = 0.5 * square_ng.mean() + 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(nats(UnitVariance(6), square_ng.sqrt()), expected)
    assert not list(UnitVariance(6).parameters())
    assert not UnitVariance(6).state_dict()


def test_shared_variance_is_the_best_of_all_shared_variances() -> None:
    square_ng = errors().square()
    loss = nats(SharedVariance(6), square_ng.sqrt())
    grid = torch.linspace(-4.0, 4.0, 801)
    candidates = torch.stack([-Normal(0.0, float((0.5 * v).exp())).log_prob(errors()).mean() for v in grid])
    assert float(loss) == pytest.approx(float(candidates.min()), abs=1e-4)
    assert float(loss) <= float(candidates.min()) + 1e-6
    assert float(grid[candidates.argmin()]) == pytest.approx(float(square_ng.mean().log()), abs=0.011)


def test_shared_variance_pulls_like_the_log_of_the_mse() -> None:
    residual_ng = errors().requires_grad_()
    (gradient,) = torch.autograd.grad(nats(SharedVariance(6), residual_ng), residual_ng)
    expected = residual_ng.detach() / (residual_ng.detach().square().sum())
    torch.testing.assert_close(gradient, expected)


def test_running_variance_converges_to_that_of_the_batches() -> None:
    likelihood = SharedVariance(6)
    square_ng = errors().square()
    gaps = []
    for _ in range(600):
        nats(likelihood, square_ng.sqrt())
        gaps.append(abs(float(likelihood.log_var) - math.log(float(square_ng.mean()))))
    # an exponential mean: the distance to the limit shrinks by the same factor at each step
    assert gaps[99] / gaps[98] == pytest.approx(1.0 - MOMENTUM, rel=1e-3)
    assert gaps[-1] < 1e-3
    assert float(nats(likelihood.eval(), square_ng.sqrt())) == pytest.approx(
        float(nats(likelihood.train(), square_ng.sqrt())), abs=1e-5
    )


def test_evaluation_leaves_the_running_variance_alone() -> None:
    likelihood = SharedVariance(6).eval()
    nats(likelihood, 10.0 * errors())
    assert likelihood.log_var.tolist() == [0.0]
    assert "log_var" in likelihood.state_dict()


def test_gradient_optimum_of_the_per_gene_variance_is_each_genes_mse() -> None:
    likelihood = PerGeneVariance(6)
    square_ng = errors().square()
    with torch.no_grad():
        likelihood.log_var.copy_(square_ng.mean(0).log())
    nats(likelihood, square_ng.sqrt()).backward()
    assert likelihood.log_var.grad is not None
    assert likelihood.log_var.grad.abs().max() < 1e-7
    # and gradient descent gets there from the start
    fresh = PerGeneVariance(6)
    optimizer = torch.optim.LBFGS(fresh.parameters(), lr=0.5, max_iter=100)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = nats(fresh, square_ng.sqrt())
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(fresh.log_var.detach(), square_ng.mean(0).log(), atol=1e-3, rtol=0)


def test_per_gene_is_never_worse_than_shared_at_their_optima() -> None:
    square_ng = errors().square()
    per_gene = PerGeneVariance(6)
    with torch.no_grad():
        per_gene.log_var.copy_(square_ng.mean(0).log())
    # Jensen: mean of logs below log of the mean, by exactly half that gap per entry
    gap = 0.5 * (square_ng.mean().log() - square_ng.mean(0).log().mean())
    torch.testing.assert_close(
        nats(SharedVariance(6), square_ng.sqrt()) - nats(per_gene, square_ng.sqrt()).detach(),
        gap,
        atol=1e-5,
        rtol=0,
    )


@pytest.mark.parametrize("name", sorted(set(LIKELIHOODS) - {"negative_binomial"}))
def test_weights_of_one_change_nothing_and_a_weight_of_two_counts_a_gene_twice(name: str) -> None:
    square_ng = errors(4, 6).square()
    torch.testing.assert_close(
        nats(LIKELIHOODS[name](6), square_ng.sqrt(), weight_nf=torch.ones(4, 6)),
        nats(LIKELIHOODS[name](6), square_ng.sqrt()),
    )
    weight_ng = torch.ones(4, 6)
    weight_ng[:, 0], weight_ng[:, 1] = 2.0, 0.0
    doubled = torch.cat([square_ng[:, :1], square_ng[:, :1], square_ng[:, 2:]], 1)
    torch.testing.assert_close(
        nats(LIKELIHOODS[name](6), square_ng.sqrt(), weight_nf=weight_ng),
        nats(LIKELIHOODS[name](6), doubled.sqrt()),
    )


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if LIKELIHOODS[name].isotropic])
@pytest.mark.parametrize("training", [True, False])
def test_nats_do_not_depend_on_the_basis(name: str, training: bool) -> None:
    """Coordinates in three directions, and the length of what is left, stand for all six genes."""
    residual_ng = errors(50, 6)
    basis_gf = torch.linalg.qr(torch.randn(6, 3, generator=torch.Generator().manual_seed(1)))[0]
    inside_nf = residual_ng @ basis_gf
    outside_n = (residual_ng - inside_nf @ basis_gf.T).square().sum(1)
    of_genes, of_coordinates = (LIKELIHOODS[name](6).train(training) for _ in range(2))
    torch.testing.assert_close(
        nats(of_coordinates, inside_nf, outside_n=outside_n), nats(of_genes, residual_ng)
    )
    torch.testing.assert_close(of_coordinates.log_var, of_genes.log_var)


def test_per_sample_is_a_normal_density_with_its_variance_integrated_out() -> None:
    likelihood = SampleVariance(6).eval()
    likelihood.log_var.fill_(-0.7)
    likelihood.spread.fill_(0.4)
    square_ng = errors(20, 6).square()
    a = 1.0 / 0.4 + 0.5
    b = math.exp(-0.7 + float(torch.digamma(torch.tensor(a))))
    precision = Gamma(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64))
    grid = torch.linspace(1e-6, 60.0, 400_001, dtype=torch.float64)
    weight = precision.log_prob(grid).exp() * (grid[1] - grid[0])
    by_hand = []
    for total in square_ng.double().sum(1):
        density = (3.0 * (grid / (2 * math.pi)).log() - 0.5 * grid * total).exp()
        by_hand.append(-float((density * weight).sum().log()) / 6)
    assert float(nats(likelihood, square_ng.sqrt())) == pytest.approx(float(np.mean(by_hand)), rel=1e-4)


def test_per_sample_learns_the_moments_of_the_samples_log_variances() -> None:
    generator = torch.Generator().manual_seed(0)
    likelihood = SampleVariance(5000)
    for _ in range(400):
        log_variance_n = -1.0 + 0.5 * torch.randn(128, generator=generator)
        nats(likelihood, (0.5 * log_variance_n).exp()[:, None].expand(-1, 5000))
    assert float(likelihood.log_var) == pytest.approx(-1.0, abs=0.05)
    assert float(likelihood.spread) == pytest.approx(0.25, rel=0.2)


def test_one_bad_sample_pulls_no_more_than_a_good_one_under_per_sample() -> None:
    residual_ng = torch.cat([errors(1, 600), 100.0 * errors(1, 600)]).requires_grad_()
    pull = {}
    for name in ("shared", "per_sample"):
        (gradient_ng,) = torch.autograd.grad(nats(LIKELIHOODS[name](600), residual_ng), residual_ng)
        good, bad = gradient_ng.norm(dim=1)
        pull[name] = float(bad / good)
    assert pull["per_sample"] < 0.02 < 50.0 < pull["shared"]
