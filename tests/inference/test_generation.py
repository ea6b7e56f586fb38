"""Gaussians of tissues, and profiles drawn from the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import ConfigError
from gtex_vae.inference.generation import TissueGaussians, profiles
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.vae import VAE
from gtex_vae.nn.likelihoods import LIKELIHOODS, PerGeneVariance, SampleVariance


def test_each_gaussian_draws_with_its_own_variance():
    random = np.random.default_rng(0)
    mean_ng = torch.full((4000, 6), 2.0)
    for name, likelihood in (
        (name, kind(6)) for name, kind in LIKELIHOODS.items() if name in ("mse", "shared", "per_gene")
    ):
        if name != "mse":
            with torch.no_grad():
                likelihood.log_var.fill_(-1.0)
        if isinstance(likelihood, PerGeneVariance):
            with torch.no_grad():
                likelihood.log_var[0] = 1.0
        drawn_ng = likelihood.sample(mean_ng, random)
        variance_g = likelihood.log_var.exp().detach().expand(6)
        torch.testing.assert_close(drawn_ng.var(0), variance_g, rtol=0.1, atol=0.0)
        torch.testing.assert_close(drawn_ng.mean(0), mean_ng[0], rtol=0.0, atol=0.1)


def test_per_sample_draws_the_variances_whose_moments_it_keeps():
    likelihood = SampleVariance(3000)
    likelihood.log_var.fill_(-1.5)
    likelihood.spread.fill_(0.2)
    drawn_ng = likelihood.sample(torch.zeros(1500, 3000), np.random.default_rng(0))
    log_mse_n = drawn_ng.square().mean(1).log()
    assert float(log_mse_n.mean()) == pytest.approx(-1.5, abs=0.05)
    assert float(log_mse_n.var()) == pytest.approx(0.2, rel=0.15)


def cloud(random: np.random.Generator, tissues: np.ndarray, d: int = 5) -> np.ndarray:
    """Latent means: each tissue its own place, and twice the spread along the first axis."""
    centre_td = np.random.default_rng(7).normal(size=(3, d)) * 4
    z_nd = centre_td[tissues] + random.normal(size=(len(tissues), d)) * np.array([2.0, *np.ones(d - 1)])
    return z_nd.astype(np.float32)


def test_gaussians_have_the_moments_of_the_aggregate_posterior():
    random = np.random.default_rng(0)
    tissues = np.repeat([0, 1], [2000, 1000])
    mu_nd, var_nd = cloud(random, tissues), np.full((3000, 5), 0.5, np.float32)
    names = np.array(["liver", "lung"])[tissues]
    gaussians = TissueGaussians.fit(mu_nd, var_nd, names)
    drawn_nd = gaussians.draw(np.array(["lung"] * 20_000), random)
    np.testing.assert_allclose(drawn_nd.mean(0), mu_nd[tissues == 1].mean(0), atol=0.1)
    np.testing.assert_allclose(drawn_nd.var(0), mu_nd[tissues == 1].var(0) + 0.5, rtol=0.07)
    shares = gaussians.shares([], 3000, random)
    assert (shares == "liver").mean() == pytest.approx(2 / 3, abs=0.03)
    assert set(gaussians.shares(["lung"], 5, random)) == {"lung"}
    with pytest.raises(ConfigError, match="did you mean 'liver'"):
        gaussians.shares(["livr"], 5, random)


def test_a_tissue_of_one_sample_leans_on_the_others():
    random = np.random.default_rng(0)
    tissues = np.array([0] * 500 + [1])
    gaussians = TissueGaussians.fit(cloud(random, tissues), None, tissues.astype(str))
    spread_d = gaussians.draw(np.array(["1"] * 5000), random).std(0)
    assert spread_d[0] == pytest.approx(2.0, rel=0.15)  # the spread within the other tissue
    np.testing.assert_allclose(spread_d[1:], 1.0, rtol=0.15)


def test_profiles_are_in_the_unit_and_noise_is_added_only_when_drawn():
    torch.manual_seed(0)
    vae = VAE(30, 3, [8], n_components=10, likelihood="shared").eval()
    vae.likelihood.log_var.fill_(-2.0)
    scaler = Standardizer(30)
    scaler.center_g.fill_(0.3)
    names = [f"g{i}" for i in range(30)]
    model = TrainedModel(vae, scaler, gene_ids=names, gene_names=names, unit="log2(TPM+1)", architecture={})
    z_nd = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)
    mean_ng, drawn_ng = profiles(model, z_nd, None), profiles(model, z_nd, np.random.default_rng(1))
    assert drawn_ng.min() == 0.0 and (drawn_ng == 0).mean() > 0.05  # below zero there is no expression
    assert not np.array_equal(mean_ng, drawn_ng)
    np.testing.assert_array_equal(drawn_ng, profiles(model, z_nd, np.random.default_rng(1)))
    # the noise goes beyond the ten directions of the basis
    left_ng = torch.from_numpy(drawn_ng - mean_ng)
    outside = (left_ng - vae.expand(vae.project(left_ng))).square().mean() / left_ng.square().mean()
    assert float(outside) > 0.5
