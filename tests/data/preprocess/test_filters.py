"""Statistics of samples and genes, filters with their reasons, near-duplicates and the QC page."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from gtex_vae.data.preprocess.filters import filter_matrix
from gtex_vae.data.preprocess.gene_stats import gene_stats, top_variable
from gtex_vae.data.preprocess.near_duplicates import near_duplicates
from gtex_vae.data.preprocess.prepare import prepare_matrix
from gtex_vae.data.preprocess.qc import write_qc
from gtex_vae.data.preprocess.sample_stats import outliers, sample_stats
from gtex_vae.errors import ConfigError, DataError
from gtex_vae.paths import shared_dir

V6 = shared_dir() / "gtex_v6/gtex_v6.h5ad"
UNIT = "log2(TPM+1)"


def tissue_data(n=120, g=300, seed=0):
    """Two tissues with profiles of their own, noise between samples."""
    rng = np.random.default_rng(seed)
    profile = rng.gamma(2.0, 2.0, (2, g))
    tissue = np.arange(n) % 2
    x = np.maximum(profile[tissue] + rng.normal(0, 0.5, (n, g)), 0).astype(np.float32)
    names = np.array(["liver", "lung"])[tissue]
    obs = pd.DataFrame(
        {"donor": [f"d{i // 2}" for i in range(n)], "tissue": names}, index=[f"s{i}" for i in range(n)]
    )
    return x, obs


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 600), seed=st.integers(0, 9), level=st.sampled_from([0.0, 1e3]))
def test_gene_moments_are_numpys_in_blocks_and_sparse(n, seed, level):
    x = np.random.default_rng(seed).normal(level, 1, (n, 4)).astype(np.float32)
    keep_n = np.random.default_rng(seed).random(n) < 0.7
    keep_n[0] = True
    for layout in (np.asarray, sp.csr_array):
        stats = gene_stats(layout(x), "tpm", keep_n=keep_n)
        kept = x[keep_n].astype(np.float64)
        np.testing.assert_allclose(stats.mean_g, kept.mean(axis=0), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(stats.var_g, kept.var(axis=0), rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(stats.prevalence_g, (x[keep_n] > np.float32(0.1)).mean(axis=0))


def test_sample_stats_do_not_depend_on_unit_or_layout():
    tpm = np.random.default_rng(0).gamma(0.5, 20.0, (7, 90)).astype(np.float32)
    plain = sample_stats(tpm, "tpm")
    assert plain["detected_genes"].tolist() == (tpm > 0.1).sum(axis=1).tolist()
    np.testing.assert_allclose(plain["library_size"], tpm.sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(
        plain["top50_share"], np.sort(tpm)[:, -50:].sum(axis=1) / tpm.sum(axis=1), rtol=1e-5
    )
    for unit, offset in ((UNIT, 1.0), ("log2(tpm+0.001)", 0.001)):
        logged = np.log2(tpm + np.float32(offset))
        for layout in (np.asarray, sp.csr_array):
            pd.testing.assert_frame_equal(sample_stats(layout(logged), unit), plain, rtol=1e-4)


def test_missing_values_are_counted_not_summed():
    stats = sample_stats(np.float32([[1, np.nan, 3, np.inf]]), "tpm")
    assert stats.loc[0, ["library_size", "missing_share"]].tolist() == [4.0, 0.5]


def test_hvg_makes_up_for_the_level_that_variance_does_not():
    rng = np.random.default_rng(0)
    # the noise grows with the level; five quiet genes vary far more than others of their level
    level = np.linspace(0.5, 10, 400)
    sd = 0.1 * level
    special = np.arange(5, 50, 10)
    sd[special] *= 5
    x = rng.normal(level, sd, (500, 400)).astype(np.float32)
    stats = gene_stats(x, "tpm")
    assert set(special) <= set(np.flatnonzero(top_variable(stats, 10, rank_by="hvg")))
    assert not set(special) & set(np.flatnonzero(top_variable(stats, 10, rank_by="variance")))
    with pytest.raises(ValueError, match="rank_by='x' must be 'variance' or 'hvg'"):
        top_variable(stats, 1, rank_by="x")


@given(st.integers(0, 12))
def test_top_genes_are_so_many(n_genes):
    stats = gene_stats(np.random.default_rng(0).random((5, 9)).astype(np.float32), "tpm")
    for rank_by in ("variance", "hvg"):
        assert top_variable(stats, n_genes, rank_by=rank_by).sum() == min(n_genes, 9)


@pytest.mark.parametrize("n_genes", [0, -5])
def test_no_top_genes_are_refused_before_the_matrix_is_read(n_genes):
    with pytest.raises(ConfigError, match=rf"data.prepare.top_genes={n_genes} must be at least 1"):
        prepare_matrix("none.tsv", top_genes=n_genes)


def test_every_drop_has_one_reason_and_they_add_up():
    x, obs = tissue_data()
    x[3] = 0
    x[5] += 6
    x[:, :40] = 0
    x[7, :40] = 5  # one sample in 120 has these genes
    obs["freeze"] = pd.Categorical(["RNASEQ"] * 118 + ["EXCLUDE", None])
    obs["in_freeze"] = obs["freeze"] == "RNASEQ"
    kept = filter_matrix(
        x, obs, unit=UNIT, blacklist=["s3", "s9"], drop_outliers=True, min_prevalence=0.05, top_genes=100
    )
    assert kept.dropped["samples"] == {"blacklisted": 2, "outside the analysis freeze": 1, "outlier": 1}
    assert np.flatnonzero(~kept.keep_n).tolist() == [3, 5, 9, 118]  # 119 has no row, which is no verdict
    assert sum(kept.dropped["samples"].values()) == (~kept.keep_n).sum()
    assert kept.dropped["genes"]["above 0.1 in under 5% of samples"] == 40
    assert sum(kept.dropped["genes"].values()) == (~kept.keep_g).sum() == 200
    assert not kept.keep_g[:40].any()


def test_by_default_only_empty_samples_go():
    x, obs = tissue_data()
    x[3] = 0
    x[5] += 6
    kept = filter_matrix(sp.csr_array(x), obs, unit=UNIT)
    assert kept.dropped == {"samples": {"all zero": 1}, "genes": {}}
    assert kept.keep_g.all()


def test_impossible_filters_are_refused():
    x, obs = tissue_data(n=4)
    with pytest.raises(DataError, match="1 blacklisted samples are not in the matrix: s77"):
        filter_matrix(x, obs, unit=UNIT, blacklist=["s77"])
    with pytest.raises(DataError, match="leave no sample of 4"):
        filter_matrix(x, obs, unit=UNIT, min_detected=9999)
    with pytest.raises(DataError, match="leave no gene of 300"):
        filter_matrix(x, obs, unit=UNIT, min_prevalence=0.5, min_expression=1e9)


def test_a_tissue_is_no_outlier_for_being_another_tissue():
    x, obs = tissue_data(n=130)
    x[obs["tissue"] == "lung"] *= 2.0
    x[:4] *= 2.0
    stats = sample_stats(x, UNIT)
    flagged = outliers(stats, obs["tissue"]).any(axis=1).to_numpy()
    assert flagged.tolist() == [True] * 4 + [False] * 126
    alone = pd.Series(obs.index)  # tissues of one sample have no median worth the name
    pd.testing.assert_frame_equal(outliers(stats, alone), outliers(stats))


@pytest.mark.parametrize("layout", [np.asarray, sp.csr_array])
def test_near_duplicates_are_found_and_only_they(layout):
    x, obs = tissue_data(n=60)
    rng = np.random.default_rng(1)
    x[10] = x[40] + rng.normal(0, 0.02, x.shape[1])
    x[11] = x[12]
    found = near_duplicates(layout(x), obs.index)
    assert [{row["sample"], row["other"]} for _, row in found.iterrows()] == [{"s11", "s12"}, {"s10", "s40"}]
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    np.testing.assert_allclose(found["correlation"], [1.0, np.corrcoef(z[10], z[40])[0, 1]], atol=1e-5)


def test_projection_misses_no_pair():
    x, obs = tissue_data(n=150, g=80)
    x[75:] = x[:75] + np.random.default_rng(2).normal(0, 0.35, (75, 80)).astype(np.float32)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    exact = np.triu(np.corrcoef(z), k=1) >= 0.9
    assert len(near_duplicates(x, obs.index, threshold=0.9)) == exact.sum() > 10


def test_qc_page_is_written(tmp_path):
    x, obs = tissue_data()
    x[3] = 0
    x[5] += 6
    x[8] = x[9]
    obs["age"] = np.where(np.arange(120) < 30, np.nan, 50)
    kept = filter_matrix(x, obs, unit=UNIT)
    write_qc(tmp_path, x, obs, unit=UNIT, reason_n=kept.reason_n)
    table = pd.read_csv(tmp_path / "qc_samples.csv", index_col="sample", keep_default_na=False)
    assert len(table) == 120 and table.loc["s3", "dropped"] == "all zero"
    assert table.loc["s3", "outlier"] == "empty" and "library_size" in table.loc["s5", "outlier"]
    assert table.loc["s8", "near_duplicate_of"] == "s9" and table.loc["s9", "near_duplicate_of"] == "s8"
    pairs = pd.read_csv(tmp_path / "qc_near_duplicates.csv")
    assert set(pairs.loc[0, ["sample", "other"]]) == {"s8", "s9"}
    assert (tmp_path / "qc.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "qc.png",
        "qc_near_duplicates.csv",
        "qc_samples.csv",
    ]


@pytest.mark.parametrize("columns", [[], ["donor"]])
def test_qc_page_without_annotations(tmp_path, columns):
    x, obs = tissue_data(n=6)
    write_qc(tmp_path, x, obs[columns], unit=UNIT)
    assert (tmp_path / "qc.png").stat().st_size > 10_000


@pytest.mark.real
@pytest.mark.skipif(not V6.is_file(), reason="no shared GTEx v6 extract")
def test_the_bad_samples_of_gtex_v6_are_found():
    import anndata as ad

    data = ad.read_h5ad(V6)
    stats = sample_stats(data.X, "log2(RPKM+1)")
    flags = outliers(stats, data.obs["tissue"].reset_index(drop=True))
    assert flags["empty"].sum() == 1 and flags.any(axis=1).sum() == 13
    huge = stats["library_size"] > 1e7
    assert huge.sum() == 11 and flags["library_size"][huge].all()
