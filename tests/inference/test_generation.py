"""Synthetic profiles: where they are drawn, the noise around them, and an audit that finds out what is wrong with them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData

from gtex_vae.analysis.synthetic.audit import (
    REAL,
    Kernel,
    Neighbourhood,
    Profiles,
    audit,
    correlations,
    squared_distances,
)
from gtex_vae.analysis.synthetic.synthesis import sentence, synthesize
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


def real_samples(n_donors: int, seed: int) -> tuple[Profiles, pd.Series]:
    """Samples of correlated genes; three tissues and a shift of its own for each donor."""
    shared, random = np.random.default_rng(1), np.random.default_rng(seed)
    loading_fg, centre_tg = shared.normal(size=(4, 60)), shared.normal(size=(3, 60)) * 2
    donor_n, tissue_n = np.repeat(np.arange(n_donors), 3), np.tile(np.arange(3), n_donors)
    x_ng = centre_tg[tissue_n] + random.normal(size=(n_donors, 60))[donor_n] * 0.5
    x_ng += random.normal(size=(len(donor_n), 4)) @ loading_fg + random.normal(size=x_ng.shape) * 0.3
    x_ng = x_ng.astype(np.float32)
    tissues, donors = (
        pd.Series(tissue_n.astype(str), dtype=object),
        pd.Series([f"{seed}_{d}" for d in donor_n]),
    )
    return Profiles(x_ng, tissues), donors


def test_the_audit_tells_real_samples_copies_and_wrong_distributions_apart():
    train, train_donors = real_samples(120, 2)
    held_out, held_out_donors = real_samples(60, 3)
    others, _ = real_samples(120, 4)
    random = np.random.default_rng(0)
    shuffled_ng = np.stack([random.permutation(gene_n) for gene_n in train.x_ng.T], axis=1)
    generated = {
        "others": others,
        "copies": Profiles(train.x_ng + np.float32(0.01), train.tissue),
        "shuffled": Profiles(shuffled_ng, pd.Series([None] * len(shuffled_ng))),
        "narrow": Profiles(train.x_ng * np.float32(0.5), train.tissue),
    }
    table, halves = audit(generated, train, train_donors, held_out, held_out_donors)
    assert list(table.index) == [*generated, REAL]
    for good in ("others", REAL):
        row = table.loc[good]
        assert row["mmd2"] < halves
        assert row["variance"] == pytest.approx(1.0, abs=0.2)
        assert row["correlation"] > 0.9 and row["correlation_within_tissues"] > 0.9
        assert row["tissue_accuracy"] > 0.9
        assert row["nearest"] == pytest.approx(1.0, abs=0.15) and row["too_near"] < 0.15
    assert table.loc["copies", "too_near"] == 1.0 and table.loc["copies", "nearest"] < 0.2
    assert table.loc["shuffled", "mmd2"] > halves
    assert abs(table.loc["shuffled", "correlation"]) < 0.2
    assert np.isnan(table.loc["shuffled", "tissue_accuracy"])
    assert np.isnan(table.loc["shuffled", "correlation_within_tissues"])
    assert table.loc["narrow", "mmd2"] > halves and table.loc["narrow", "variance"] < 0.4


def test_a_donors_own_samples_do_not_make_its_other_sample_a_copy():
    train, donors = real_samples(40, 2)
    twins = Profiles(np.repeat(train.x_ng, 2, axis=0), train.tissue)
    near = Neighbourhood.fit(twins.x_ng, donors.repeat(2), real_samples(40, 3)[0].x_ng)
    assert near.of(twins.x_ng)["too_near"] == 1.0
    assert near.of(twins.x_ng, donors.repeat(2))["too_near"] < 0.3


def test_discrepancy_and_distances_are_what_they_say():
    random = np.random.default_rng(0)
    x_nf, y_mf = random.normal(size=(7, 3)).astype("f4"), random.normal(size=(9, 3)).astype("f4")
    expected_nm = np.square(x_nf[:, None] - y_mf[None]).sum(2)
    np.testing.assert_allclose(squared_distances(x_nf, y_mf), expected_nm, rtol=1e-4, atol=1e-5)
    kernel = Kernel.fit(y_mf, random)
    pairs = list(np.square(y_mf[:, None] - y_mf[None]).sum(2)[np.triu_indices(9, 1)])
    assert kernel.width == pytest.approx(2 * np.median(pairs), rel=1e-4)
    k = lambda a, b: np.exp(-np.square(a - b).sum() / kernel.width)  # noqa: E731
    within_x = np.mean([k(a, b) for i, a in enumerate(x_nf) for j, b in enumerate(x_nf) if i != j])
    within_y = np.mean([k(a, b) for i, a in enumerate(y_mf) for j, b in enumerate(y_mf) if i != j])
    across = np.mean([k(a, b) for a in x_nf for b in y_mf])
    assert kernel.discrepancy(x_nf) == pytest.approx(within_x + within_y - 2 * across, abs=1e-5)
    upper = np.triu_indices(3, 1)
    np.testing.assert_allclose(correlations(x_nf), np.corrcoef(x_nf.T)[upper], atol=1e-5)


def test_words_of_the_audit():
    good = {"mmd2": 0.001, "mmd2_of_halves": 0.01, "too_near": 0.04, "tissue_accuracy": 0.8,
            "baseline/training/tissue_accuracy": 0.9}  # fmt: skip
    assert sentence(good).endswith("no copies") and "within the 0.0100" in sentence(good)
    assert sentence({**good, "too_near": 0.9}).endswith("copies") and "no copies" not in sentence(
        {**good, "too_near": 0.9}
    )
    assert "not their distribution" in sentence({**good, "mmd2": 0.02})
    assert sentence({**good, "mmd2_of_halves": float("nan")}).startswith(
        "squared MMD 0.0010, of too few held-out"
    )


def test_tissues_are_not_drawn_where_no_sample_has_one():
    model = TrainedModel(VAE(2, 1, [4]), Standardizer(2), gene_ids=["a", "b"], gene_names=["", ""],
                         unit="log2(TPM+1)", architecture={})  # fmt: skip
    samples = AnnData(
        np.zeros((3, 2), np.float32), obs=pd.DataFrame({"split": "train", "tissue": [None] * 3})
    )
    with pytest.raises(ConfigError, match=r"how=tissue: no training sample has a tissue; how=prior"):
        synthesize(model, samples, how="tissue", n_samples=4)
