"""A linear VAE with learned noise is probabilistic PCA (Lucas et al. 2019): the proof that ELBO and model are right.

Tipping and Bishop (1999) give the maximum of the likelihood in closed form from the eigenvalues l of the covariance:

    sigma^2 = mean of the discarded eigenvalues,   W = U (L - sigma^2 I)^(1/2) R,

and the evidence of each sample exactly, log N(x; mu, W W' + sigma^2 I). Shapes: n samples, g genes, d latent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from scipy.stats import multivariate_normal

from gtex_vae.data.simulate.bulk import simulate_gtex
from gtex_vae.functional.elbo import LOG_2PI, gaussian_nll, kl_standard_normal, sample_posterior
from gtex_vae.models.objective import Objective
from gtex_vae.models.vae import VAE

LATENT, NOISE = 3, 0.5


@dataclass(frozen=True)
class Data:
    x_ng: torch.Tensor
    loadings_gd: np.ndarray


@pytest.fixture(scope="module")
def data() -> Data:
    adata = simulate_gtex(n_samples=800, n_genes=50, n_factors=LATENT, noise=NOISE, linear=True, seed=1)
    x_ng = torch.from_numpy(adata.X)
    return Data(x_ng - x_ng.mean(0), adata.varm["truth_loadings"])


def linear_vae(n_genes: int, latent_dim: int) -> VAE:
    return VAE(n_genes, latent_dim, [], likelihood="shared", norm="none", dropout=0.0, linear_skip=True)


@pytest.fixture(scope="module")
def trained(data: Data) -> VAE:
    """Full batches, the ordinary objective, Adam with a learning rate that falls to nothing."""
    torch.manual_seed(0)
    vae = linear_vae(data.x_ng.shape[1], LATENT)
    steps = 1500
    optimizer = torch.optim.Adam(vae.parameters(), lr=0.02)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    objective = Objective()
    for _ in range(steps):
        optimizer.zero_grad()
        objective(vae.likelihood, vae(data.x_ng), data.x_ng, beta=1.0).loss.backward()
        optimizer.step()
        scheduler.step()
    return vae.double().eval()


def decoder_weights(vae: VAE) -> tuple[torch.Tensor, torch.Tensor, float]:
    """W (g, d), mu (g) and sigma^2 of p(x | z) = N(W z + mu, sigma^2)."""
    assert vae.decoders[0].skip is not None
    weight_gd = (vae.decoders[0].out.weight + vae.decoders[0].skip.weight).detach().double()
    return weight_gd, vae.decoders[0].out.bias.detach().double(), float(vae.likelihood.log_var.exp())  # type: ignore[operator]


def log_evidence(vae: VAE, x_ng: torch.Tensor) -> torch.Tensor:
    """log N(x; mu, W W' + sigma^2 I) of each sample (n,), exact."""
    weight_gd, mean_g, variance = decoder_weights(vae)
    covariance_gg = weight_gd @ weight_gd.T + variance * torch.eye(len(mean_g), dtype=torch.float64)
    density = multivariate_normal(mean_g.numpy(), covariance_gg.numpy())
    return torch.from_numpy(np.atleast_1d(density.logpdf(x_ng.double().numpy())))


def elbo(vae: VAE, x_ng: torch.Tensor) -> torch.Tensor:
    """ELBO of each sample (n,); E|x - W z - mu|^2 is exact for a linear decoder, the KL is the package's."""
    weight_gd, _, variance = decoder_weights(vae)
    with torch.no_grad():
        mu_nd, log_var_nd = vae.encode(x_ng.double())
        residual_ng = x_ng.double() - vae.decode(mu_nd)
    expected_square_n = residual_ng.square().sum(1) + log_var_nd.exp() @ weight_gd.square().sum(0)
    n_genes = x_ng.shape[1]
    log_likelihood_n = -0.5 * (n_genes * (LOG_2PI + math.log(variance)) + expected_square_n / variance)
    return log_likelihood_n - kl_standard_normal(mu_nd, log_var_nd).sum(1)


def maximum_likelihood(x_ng: torch.Tensor) -> tuple[np.ndarray, float, float]:
    """Tipping and Bishop's W W' (g, g), sigma^2 and mean log likelihood per sample."""
    covariance = np.cov(x_ng.double().numpy().T, bias=True)
    n_genes = len(covariance)
    value, vector = np.linalg.eigh(covariance)
    value, vector = value[::-1], vector[:, ::-1]
    variance = float(value[LATENT:].mean())
    weights = (vector[:, :LATENT] * (value[:LATENT] - variance)) @ vector[:, :LATENT].T
    log_determinant = np.log(value[:LATENT]).sum() + (n_genes - LATENT) * math.log(variance)
    return weights, variance, float(-0.5 * (n_genes * LOG_2PI + log_determinant + n_genes))


def angles_degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(subspace_angles(a, b))


def test_it_finds_the_principal_subspace(trained: VAE, data: Data) -> None:
    weight_gd = decoder_weights(trained)[0].numpy()
    best_gg, _, _ = maximum_likelihood(data.x_ng)
    principal_gd = np.linalg.eigh(best_gg)[1][:, -LATENT:]
    assert angles_degrees(weight_gd, principal_gd).max() < 1.0
    # the truth is further off, as far as 800 samples let anyone know it
    assert angles_degrees(weight_gd, data.loadings_gd).max() < 6.0
    rng = np.random.default_rng(0)
    assert angles_degrees(rng.standard_normal(weight_gd.shape), principal_gd).max() > 60.0


def test_it_finds_scale_and_noise(trained: VAE, data: Data) -> None:
    weight_gd, mean_g, variance = decoder_weights(trained)
    best_gg, best_variance, _ = maximum_likelihood(data.x_ng)
    error = np.linalg.norm((weight_gd @ weight_gd.T).numpy() - best_gg) / np.linalg.norm(best_gg)
    assert error < 0.02
    assert variance == pytest.approx(best_variance, rel=0.01)
    assert variance == pytest.approx(NOISE**2, rel=0.02)
    assert mean_g.abs().max() < 0.05


def test_columns_come_out_as_the_principal_axes(trained: VAE) -> None:
    """A diagonal posterior is exact only where W'W is diagonal, so the ELBO picks that rotation of the subspace."""
    weight_gd = decoder_weights(trained)[0]
    gram_dd = torch.nn.functional.normalize(weight_gd, dim=0)
    cosines = gram_dd.T @ gram_dd - torch.eye(LATENT, dtype=torch.float64)
    assert cosines.abs().max() < 0.05


def test_posterior_is_that_of_ppca(trained: VAE, data: Data) -> None:
    r"""q(z | x) = N(M^-1 W'(x - mu), sigma^2 M^-1) with M = W'W + sigma^2 I (Tipping and Bishop, eq. 6-8)."""
    weight_gd, mean_g, variance = decoder_weights(trained)
    inverse_dd = torch.linalg.inv(weight_gd.T @ weight_gd + variance * torch.eye(LATENT, dtype=torch.float64))
    with torch.no_grad():
        mu_nd, log_var_nd = trained.encode(data.x_ng.double())
    exact_nd = (data.x_ng.double() - mean_g) @ weight_gd @ inverse_dd
    assert (mu_nd - exact_nd).square().mean() < 1e-2 * exact_nd.square().mean()
    ratio = log_var_nd.exp().mean(0) / (variance * inverse_dd.diagonal())
    torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=0.05)


def test_elbo_never_exceeds_the_evidence_of_any_sample_and_meets_it_at_the_optimum(
    trained: VAE, data: Data
) -> None:
    gap_n = log_evidence(trained, data.x_ng) - elbo(trained, data.x_ng)
    assert gap_n.min() > -1e-9
    assert gap_n.mean() < 0.01  # nats per sample
    best = maximum_likelihood(data.x_ng)[2]
    reached = float(log_evidence(trained, data.x_ng).mean())
    assert best - 0.005 < reached <= best + 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_elbo_is_below_the_evidence_for_any_parameters(seed: int, data: Data) -> None:
    generator = torch.Generator().manual_seed(seed)
    vae = linear_vae(data.x_ng.shape[1], LATENT).double()
    with torch.no_grad():
        for p in vae.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
        vae.likelihood.log_var.fill_(0.5 * seed - 1.0)  # type: ignore[operator]
    gap_n = log_evidence(vae, data.x_ng) - elbo(vae, data.x_ng)
    assert gap_n.min() > 0.0
    assert gap_n.mean() > 1.0  # and is no bound that nothing can break


def test_the_packages_sampled_elbo_has_the_exact_one_as_its_mean(trained: VAE, data: Data) -> None:
    x_ng = data.x_ng[:20].double()
    torch.manual_seed(0)
    with torch.no_grad():
        mu_nd, log_var_nd = trained.encode(x_ng)
        kl_n = kl_standard_normal(mu_nd, log_var_nd).sum(1)
        draws = []
        for _ in range(2000):
            x_hat_ng = trained.decode(sample_posterior(mu_nd, log_var_nd))
            nll_ng = gaussian_nll((x_ng - x_hat_ng).square(), trained.likelihood.log_var)  # type: ignore[arg-type]
            draws.append(-nll_ng.sum(1) - kl_n)
    sampled = torch.stack(draws)
    standard_error_n = sampled.std(0) / math.sqrt(len(sampled))
    assert ((sampled.mean(0) - elbo(trained, x_ng)).abs() < 4.5 * standard_error_n).all()
    # the objective of a batch is the same quantity, per gene, at the posterior sample it was given
    torch.manual_seed(1)
    trained.likelihood.eval()
    with torch.no_grad():
        output = trained.train()(x_ng)
        trained.eval()
        terms = Objective()(trained.likelihood, output, x_ng, beta=1.0)
        nll_n = gaussian_nll((x_ng - output.x_hat_nf).square(), trained.likelihood.log_var).sum(1)  # type: ignore[arg-type]
    assert float(x_ng.shape[1] * terms.loss) == pytest.approx(float((nll_n + kl_n).mean()), rel=1e-5)
