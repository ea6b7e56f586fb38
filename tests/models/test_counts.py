"""Read counts: taken back from log values, their negative binomial, and how runs are told the size of libraries."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import nbinom
from torch.distributions import NegativeBinomial as TorchNegativeBinomial

from gtex_vae.analysis.evaluation.rate import rate_metrics
from gtex_vae.data.counts import LENGTH, SIZE, size_factors
from gtex_vae.data.genes.table import bundled_genes
from gtex_vae.data.preprocess.prepare import prepare_matrix
from gtex_vae.data.simulate.bulk import simulate_gtex
from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import DataError
from gtex_vae.models.vae import VAE
from gtex_vae.nn.negative_binomial import NegativeBinomial

N, G = 40, 7


@pytest.fixture
def likelihood() -> NegativeBinomial:
    """One that knows its genes: centers, scales, lengths and dispersions all differ."""
    torch.manual_seed(0)
    found = NegativeBinomial(G)
    with torch.no_grad():
        found.center_g.copy_(torch.linspace(0.5, 9.0, G))
        found.scale_g.copy_(torch.linspace(0.3, 1.5, G))
        found.length_g.copy_(torch.linspace(0.5, 3.0, G))
        found.log_theta_g.copy_(torch.linspace(-1.0, 4.0, G))
    return found


@pytest.fixture
def samples(likelihood: NegativeBinomial) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Counts, their standardized log2(TPM+1), and the libraries' sizes."""
    generator = torch.Generator().manual_seed(1)
    size_n = 5.0 + 20.0 * torch.rand(N, generator=generator)
    k_ng = torch.poisson(torch.exp2(12.0 * torch.rand(N, G, generator=generator)), generator=generator)
    y_ng = torch.log2(k_ng / (size_n[:, None] * likelihood.length_g) + 1.0)
    return k_ng, (y_ng - likelihood.center_g) / likelihood.scale_g, size_n


def test_counts_are_taken_back_exactly(likelihood, samples):
    k_ng, x_ng, size_n = samples
    assert torch.equal(likelihood.counts(x_ng, size_n), k_ng.double())


def test_it_is_the_negative_binomial_of_scipy(likelihood, samples):
    k_ng, x_ng, size_n = samples
    x_hat_ng = x_ng + 0.5 * torch.randn(N, G)
    with torch.no_grad():
        mean_ng = likelihood.mean(x_hat_ng, size_n).numpy()
        theta_g = likelihood.log_theta_g.double().exp().numpy()
        found = float(likelihood(x_hat_ng, x_ng, size_n=size_n))
    expected = -nbinom.logpmf(k_ng.numpy(), theta_g, theta_g / (theta_g + mean_ng)).mean()
    assert found == pytest.approx(expected, rel=1e-5)


def test_expressed_genes_have_the_mean_that_the_decoder_says(likelihood, samples):
    k_ng, x_ng, size_n = samples
    expressed = k_ng / (size_n[:, None] * likelihood.length_g) > 1.0
    mean_ng = likelihood.mean(x_ng, size_n).detach()
    torch.testing.assert_close(mean_ng[expressed], k_ng.double()[expressed], rtol=2e-3, atol=0.0)
    assert (mean_ng > 0.0).all()
    assert likelihood.mean(torch.full((N, G), -50.0), size_n).isfinite().all()


def test_its_gradient_is_that_of_torch_distributions(likelihood, samples):
    k_ng, x_ng, size_n = samples
    x_hat_ng = (x_ng + 0.3).requires_grad_()
    ours = torch.autograd.grad(likelihood(x_hat_ng, x_ng, size_n=size_n), (x_hat_ng, likelihood.log_theta_g))
    log_theta_g = likelihood.log_theta_g.double()
    logits_ng = likelihood.mean(x_hat_ng, size_n).log() - log_theta_g
    theirs = -TorchNegativeBinomial(log_theta_g.exp(), logits=logits_ng).log_prob(k_ng.double()).mean()
    for found, expected in zip(
        ours, torch.autograd.grad(theirs, (x_hat_ng, likelihood.log_theta_g)), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_weights_say_how_often_an_entry_counts(likelihood, samples):
    _, x_ng, size_n = samples
    weight_ng = torch.zeros(N, G)
    weight_ng[:4] = N / 4
    expected = likelihood(x_ng[:4], x_ng[:4], size_n=size_n[:4])
    torch.testing.assert_close(likelihood(x_ng, x_ng, size_n=size_n, weight_nf=weight_ng), expected)


def test_draws_have_its_mean_and_variance(likelihood):
    likelihood.usual_size.fill_(20.0)
    x_hat_ng = torch.zeros(20_000, G)
    drawn_ng = likelihood.sample(x_hat_ng, np.random.default_rng(0))
    k_ng = likelihood.counts(drawn_ng, torch.full((20_000,), 20.0)).numpy()
    mean_g = likelihood.mean(x_hat_ng[:1], likelihood.usual_size)[0].detach().numpy()
    theta_g = likelihood.log_theta_g.detach().exp().numpy()
    np.testing.assert_allclose(k_ng.mean(0), mean_g, rtol=0.05)
    np.testing.assert_allclose(k_ng.var(0), mean_g + mean_g**2 / theta_g, rtol=0.12)


def test_the_demo_knows_the_reads_that_it_was_counted_from():
    adata = simulate_gtex(n_samples=30, n_genes=60, seed=1)
    k_ng = (np.exp2(adata.X.astype(float)) - 1.0) * adata.obs[SIZE].to_numpy()[:, None]
    assert np.abs(k_ng - k_ng.round()).max() < 0.05 * max(1.0, k_ng.max() * 1e-5)
    np.testing.assert_allclose(k_ng.sum(1) / 1e6, adata.obs[SIZE], rtol=1e-4)


def test_a_matrix_of_counts_keeps_what_gives_them_back(tmp_path):
    rng = np.random.default_rng(0)
    ids = list(bundled_genes().frame.index[:30])
    counts = pd.DataFrame(rng.negative_binomial(2, 0.001, (30, 8)), index=pd.Index(ids, name="gene_id"))
    counts.columns = [f"s{i}" for i in range(8)]
    counts.to_csv(tmp_path / "counts.csv")
    adata = prepare_matrix(str(tmp_path / "counts.csv"), genes="all", min_expression=0.0)
    assert adata.uns["expression"]["unit"] == "log2(TPM+1)"
    scaler = Standardizer(adata.n_vars)
    likelihood = NegativeBinomial(adata.n_vars)
    likelihood.length_g.copy_(torch.from_numpy(adata.var[LENGTH].to_numpy()))
    size_n = torch.from_numpy(size_factors(adata.obs))
    found_ng = likelihood.counts(scaler(torch.from_numpy(adata.X)), size_n)
    wanted = counts.loc[adata.var_names, adata.obs_names].T
    np.testing.assert_array_equal(found_ng.numpy(), wanted.to_numpy())


def test_data_that_was_not_counted_is_refused():
    with pytest.raises(DataError, match=r"model.likelihood=negative_binomial requires read counts"):
        size_factors(pd.DataFrame({"tissue": ["lung"]}))
    with pytest.raises(DataError, match="size_factor"):
        size_factors(pd.DataFrame({SIZE: [1.0, np.nan]}))


def test_the_elbo_is_of_counts_and_nothing_where_nobody_counted():
    torch.manual_seed(0)
    vae = VAE(G, 2, [8], likelihood="negative_binomial").eval()
    x_ng, size_n = (
        np.random.default_rng(0).normal(3.0, 1.0, (N, G)).astype(np.float32),
        np.full(N, 9, np.float32),
    )
    found = rate_metrics(vae, x_ng, None, size_n, batch_size=16)
    assert math.isnan(rate_metrics(vae, x_ng)["elbo/nats_per_gene"])
    assert found["elbo/nats_per_gene"] < -math.log(2.0)  # a probability, unlike a density
    assert found["rate/kl_nats"] == pytest.approx(rate_metrics(vae, x_ng)["rate/kl_nats"])
