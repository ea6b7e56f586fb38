"""Simulated bulk data match their truth and resemble GTEx."""

from __future__ import annotations

import re
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from gtex_vae.data.simulate.bulk import simulate_gtex
from gtex_vae.data.simulate.genes import module_gene_sets
from gtex_vae.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    return simulate_gtex(n_samples=600, n_genes=800, seed=3)


@pytest.fixture(scope="module")
def linear() -> ad.AnnData:
    return simulate_gtex(n_samples=4000, n_genes=100, n_factors=4, noise=0.5, linear=True, seed=3)


def residual_of_tissue(adata: ad.AnnData) -> np.ndarray:
    """Subtract the mean of each tissue from the expression."""
    x_ng = pd.DataFrame(adata.X)
    return (x_ng - x_ng.groupby(adata.obs["tissue"].to_numpy(), observed=True).transform("mean")).to_numpy()


@pytest.mark.parametrize("is_linear", [False, True])
def test_same_seed_same_data_and_another_seed_another(is_linear: bool) -> None:
    first, again, other = (
        simulate_gtex(n_samples=60, n_genes=80, linear=is_linear, seed=seed) for seed in (1, 1, 2)
    )
    assert first.X.tobytes() == again.X.tobytes()
    pd.testing.assert_frame_equal(first.obs, again.obs)
    pd.testing.assert_frame_equal(first.var, again.var)
    assert not np.array_equal(first.X, other.X)
    assert set(first.obs_names).isdisjoint(other.obs_names)


def test_cohort_does_not_depend_on_the_genes() -> None:
    few, many = (simulate_gtex(n_samples=60, n_genes=n_genes, seed=1) for n_genes in (60, 200))
    counted = ["truth_depth", "truth_outlier", "size_factor"]
    pd.testing.assert_frame_equal(few.obs.drop(columns=counted), many.obs.drop(columns=counted))


def test_layout(adata: ad.AnnData) -> None:
    assert adata.shape == (600, 800) and adata.X.dtype == np.float32
    assert np.isfinite(adata.X).all() and adata.X.min() >= 0
    np.testing.assert_allclose((np.exp2(adata.X.astype(float)) - 1).sum(axis=1), 1e6, rtol=1e-4)
    assert adata.obs_names.is_unique and adata.var_names.is_unique and adata.var["gene_name"].is_unique
    assert adata.uns["expression"]["unit"] == "log2(TPM+1)"
    for sample, donor in zip(adata.obs_names, adata.obs["donor"].astype(str), strict=True):
        assert re.fullmatch(rf"{donor}-\d{{4}}-SM-[0-9A-Z]{{5}}", sample)
        assert re.fullmatch(r"GTEX-[0-9A-Z]{5}", donor)
    assert all(re.fullmatch(r"ENSG\d{11}", gene) for gene in adata.var_names)


def test_donors_are_consistent_and_give_each_tissue_once(adata: ad.AnnData) -> None:
    by_donor = adata.obs.groupby("donor", observed=True)
    assert by_donor.ngroups == 50
    assert (by_donor[["sex", "age", "truth_age"]].nunique() == 1).all(axis=None)
    assert not adata.obs.duplicated(["donor", "tissue"]).any()
    assert by_donor.size().std() > 2
    start = adata.obs["age"].str[:2].astype(int)
    assert ((adata.obs["truth_age"] >= start) & (adata.obs["truth_age"] < start + 10)).all()
    assert (adata.obs.groupby("tissue", observed=True)["tissue_group"].nunique() == 1).all()
    sex_of = adata.obs.groupby("tissue", observed=True)["sex"].unique()
    assert list(sex_of["Prostate"]) == ["M"] and list(sex_of["Ovary"]) == ["F"]


def test_counting_leaves_zeros_at_low_genes(adata: ad.AnnData) -> None:
    zero_g = (adata.X == 0).mean(axis=0)
    assert 0.01 < zero_g.mean() < 0.3
    weak = adata.X.mean(axis=0) < np.quantile(adata.X.mean(axis=0), 0.1)
    assert zero_g[weak].mean() > 20 * zero_g[~weak].mean()


def test_proportions_and_expression_follow_the_tissue(adata: ad.AnnData) -> None:
    share_nc = adata.obsm["truth_proportions"]
    np.testing.assert_allclose(share_nc.sum(axis=1), 1.0, rtol=1e-5)
    own = np.array([share_nc.loc[sample, tissue] for sample, tissue in adata.obs["tissue"].items()])
    assert (own > 0).all()
    # the mean of a tissue's samples is nearest to its own profile
    for tissue, organ in (("Liver", "Brain - Cortex"), ("Whole Blood", "Muscle - Skeletal")):
        mean_g = adata.X[(adata.obs["tissue"] == tissue).to_numpy()].mean(axis=0)
        profile = adata.varm["truth_profiles"]
        assert np.corrcoef(mean_g, profile[tissue])[0, 1] > np.corrcoef(mean_g, profile[organ])[0, 1] + 0.05


def test_modules_are_coexpressed_and_follow_their_activity(adata: ad.AnnData) -> None:
    sets = module_gene_sets(adata)
    assert len(sets) == 26 and all(10 <= len(genes) <= 200 for genes in sets.values())
    assert sum(map(len, sets.values())) == (adata.var["module"] != "").sum()
    residual_ng = residual_of_tissue(adata)
    correlation_gg = np.abs(np.corrcoef(residual_ng.T))
    module_g = adata.var["module"].astype(str).to_numpy()
    within = (module_g[:, None] == module_g) & (module_g != "") & ~np.eye(len(module_g), dtype=bool)
    between = (module_g[:, None] != module_g) & (module_g != "") & (module_g[:, None] != "")
    assert correlation_gg[within].mean() > 2 * correlation_gg[between].mean()
    # the truth has the correct sign for each gene
    activity_nm = adata.obsm["truth_modules"]
    number_g = np.array([int(name[7:]) - 1 if name else -1 for name in module_g])
    inside = np.flatnonzero(number_g >= 0)
    slope = [np.cov(residual_ng[:, g], activity_nm[:, number_g[g]])[0, 1] for g in inside]
    agree = np.sign(slope) == np.sign(adata.var["truth_loading"].to_numpy()[inside])
    assert agree.mean() > 0.9


def test_modules_follow_the_factors_exactly_but_not_linearly(adata: ad.AnnData) -> None:
    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    truth, factor_nk = adata.uns["truth"], adata.obsm["truth_factors"].astype(float)
    gate_nm = truth["module_gate"].loc[adata.obs["tissue_group"].astype(str)].to_numpy()
    u_nm = factor_nk @ truth["module_first_direction"] - truth["module_threshold"]
    v_nm = factor_nk @ truth["module_second_direction"]
    shapes = {
        "switch": 2.5 * sigmoid(3 * u_nm),
        "both": 3 * sigmoid(3 * u_nm) * sigmoid(3 * v_nm),
        "peak": 3 * np.exp(-1.5 * u_nm**2),
    }
    activity_nm = adata.obsm["truth_modules"]
    assert set(truth["module_kind"]) == set(shapes)
    for m, kind in enumerate(truth["module_kind"]):
        np.testing.assert_allclose(activity_nm[:, m], gate_nm[:, m] * shapes[kind][:, m], atol=1e-5)

    design = np.column_stack([np.ones(len(factor_nk)), factor_nk])
    ungated_nm = activity_nm / gate_nm
    residual_nm = ungated_nm - design @ np.linalg.lstsq(design, ungated_nm, rcond=None)[0]
    explained = 1 - residual_nm.var(axis=0) / ungated_nm.var(axis=0)
    assert explained.mean() < 0.75


@pytest.mark.parametrize("covariate", ["age", "ischemic_time", "rin"])
def test_effects_are_in_the_data_as_in_the_truth(adata: ad.AnnData, covariate: str) -> None:
    effect_g = adata.varm["truth_effects"][covariate].to_numpy()
    residual_ng = residual_of_tissue(adata)
    design = residual_of_tissue(ad.AnnData(adata.obsm["truth_covariates"].to_numpy(), obs=adata.obs))
    slope_eg = np.linalg.lstsq(design, residual_ng, rcond=None)[0]
    slope_g = slope_eg[list(adata.obsm["truth_covariates"]).index(covariate)]
    assert np.corrcoef(slope_g, effect_g)[0, 1] > 0.5


def test_sex_linked_genes_tell_the_sexes_apart(adata: ad.AnnData) -> None:
    male = (adata.obs["sex"] == "M").to_numpy()
    for kind, on in (("Y", male), ("X", ~male)):
        linked = (adata.var["truth_sex_linked"] == kind).to_numpy()
        assert linked.any()
        assert adata.X[on][:, linked].mean() > adata.X[~on][:, linked].mean() + 3


def test_donors_are_like_themselves_across_tissues(adata: ad.AnnData) -> None:
    factors = pd.DataFrame(adata.obsm["truth_factors"])
    donor = adata.obs["donor"].to_numpy()
    mean = factors.groupby(donor, observed=True).transform("mean")
    within = ((factors - mean) ** 2).to_numpy().mean()
    assert 0.45 < within < 0.65  # 0.6 less what the mean of a dozen samples takes


def test_residuals_are_heavy_tailed(adata: ad.AnnData) -> None:
    residual_ng = residual_of_tissue(adata)
    z_ng = residual_ng / residual_ng.std(axis=0)
    assert (z_ng**4).mean() > 4  # 3 for a normal distribution
    assert 0 < adata.obs["truth_outlier"].sum() < 30


def test_linear_covariance_is_that_of_ppca(linear: ad.AnnData) -> None:
    loading_gk, sigma = linear.varm["truth_loadings"], linear.uns["truth"]["noise"]
    expected = loading_gk @ loading_gk.T + sigma**2 * np.eye(linear.n_vars)
    empirical = np.cov(linear.X.T.astype(float))
    assert np.linalg.norm(empirical - expected) < 0.1 * np.linalg.norm(expected)
    # k eigenvalues above the noise; the noise eigenvalues within the Marchenko-Pastur bounds
    eigenvalues = np.linalg.eigvalsh(empirical)[::-1]
    edge = np.sqrt(linear.n_vars / linear.n_obs)
    assert sigma**2 * (1 - edge) ** 2 * 0.9 < eigenvalues[-1]
    assert eigenvalues[4] < sigma**2 * (1 + edge) ** 2 * 1.1 < 0.5 * eigenvalues[3]
    assert eigenvalues[4:].mean() == pytest.approx(sigma**2, rel=0.03)


def test_linear_residual_is_white_gaussian(linear: ad.AnnData) -> None:
    signal_ng = linear.obsm["truth_factors"] @ linear.varm["truth_loadings"].T
    residual_ng = linear.X - signal_ng - linear.var["truth_mean"].to_numpy()
    assert residual_ng.std() == pytest.approx(0.5, rel=0.01)
    assert ((residual_ng / 0.5) ** 4).mean() == pytest.approx(3.0, rel=0.03)
    assert linear.uns["expression"]["unit"] == "arbitrary (linear Gaussian)"
    # z does not depend on the donor: its mean per donor is that of independent draws
    by_donor = pd.DataFrame(linear.obsm["truth_factors"]).groupby(linear.obs["donor"].to_numpy())
    scaled = by_donor.mean().to_numpy() * np.sqrt(by_donor.size().to_numpy())[:, None]
    assert scaled.var() == pytest.approx(1.0, rel=0.15)


@pytest.mark.parametrize("is_linear", [False, True])
def test_h5ad_round_trip_keeps_everything(tmp_path: Path, is_linear: bool) -> None:
    written = simulate_gtex(n_samples=40, n_genes=60, linear=is_linear)
    written.write_h5ad(tmp_path / "demo.h5ad")
    read = ad.read_h5ad(tmp_path / "demo.h5ad")
    np.testing.assert_array_equal(read.X, written.X)
    pd.testing.assert_frame_equal(read.obs, written.obs)
    assert module_gene_sets(read) == module_gene_sets(written)
    assert read.uns["truth"].keys() == written.uns["truth"].keys()
    for key in written.obsm:
        np.testing.assert_array_equal(np.asarray(read.obsm[key]), np.asarray(written.obsm[key]))
    for key in written.varm:
        np.testing.assert_array_equal(np.asarray(read.varm[key]), np.asarray(written.varm[key]))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_samples", 1),
        ("n_samples", 1.5),
        ("n_samples", "many"),
        ("n_genes", 49),
        ("n_genes", 300_001),
        ("n_donors", 0),
        ("n_donors", 2),
        ("n_donors", 101),
        ("n_factors", 0),
        ("n_modules", 7),
        ("n_modules", True),
        ("noise", 0.0),
        ("noise", "low"),
        ("linear", "no"),
        ("noise", float("nan")),
        ("seed", -1),
    ],
)
def test_impossible_arguments_are_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"{key}={re.escape(repr(value))}"):
        simulate_gtex(**{"n_samples": 100, "n_genes": 120, key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("n_modules", [1, 3, 6])
def test_any_allowed_number_of_modules_has_sets_of_usable_size(n_modules: int) -> None:
    sets = module_gene_sets(simulate_gtex(n_samples=10, n_genes=120, n_modules=n_modules))
    assert len(sets) == n_modules
    assert all(10 <= len(genes) <= 200 for genes in sets.values())


def test_data_without_modules_have_no_gene_sets() -> None:
    with pytest.raises(DataError, match="module"):
        module_gene_sets(ad.AnnData(np.zeros((2, 2), dtype=np.float32)))


def test_cost_grows_no_faster_than_the_matrix() -> None:
    def seconds(n_samples: int) -> float:
        start = time.process_time()
        simulate_gtex(n_samples=n_samples, n_genes=1000)
        return time.process_time() - start

    seconds(100)
    assert min(seconds(2000) for _ in range(2)) < 20 * min(seconds(500) for _ in range(2))
