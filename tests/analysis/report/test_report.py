"""What feeds the report: maps, neighbours, leakage, verdicts, and the size of the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gtex_vae.analysis.evaluation.leakage import audit
from gtex_vae.analysis.genes.neighbours import cosine_neighbours
from gtex_vae.analysis.metrics.bootstrap import Interval
from gtex_vae.analysis.report import projections
from gtex_vae.analysis.report.comparisons import compare, headline
from gtex_vae.analysis.report.map_columns import map_columns
from gtex_vae.analysis.report.page import report
from gtex_vae.analysis.report.report_data import ReportData
from gtex_vae.data.standardize import Standardizer


def islands(n: int = 90, d: int = 6) -> np.ndarray:
    """Three well separated groups, one after the other."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, d)) + 30.0 * np.eye(d)[np.arange(n) * 3 // n]


def test_pca_map_keeps_the_two_largest_variances():
    z_nd = islands()
    xy_n2 = projections.pca_map(z_nd)
    largest = np.sort(np.linalg.eigvalsh(np.cov(z_nd.T)))[::-1][:2]
    np.testing.assert_allclose(np.var(xy_n2, axis=0, ddof=1), largest, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("project", [projections.umap_map, projections.tsne_map])
def test_an_embedding_of_one_dimension_has_a_map(project):
    assert np.isfinite(project(islands(n=12)[:, :1])).all()


@pytest.mark.slow
@pytest.mark.parametrize("project", [projections.umap_map, projections.tsne_map])
def test_map_is_seeded_and_keeps_groups_apart(project):
    z_nd = islands()
    xy_n2 = project(z_nd, seed=3)
    np.testing.assert_array_equal(xy_n2, project(z_nd, seed=3))
    distance_nn = np.linalg.norm(xy_n2[:, None] - xy_n2[None], axis=2) + 1e9 * np.eye(len(xy_n2))
    group_n = np.arange(90) // 30
    assert (group_n[distance_nn.argmin(1)] == group_n).all()


def test_neighbours_across_blocks_are_those_of_the_whole_matrix(monkeypatch):
    monkeypatch.setattr("gtex_vae.analysis.genes.neighbours.GENES_AT_A_TIME", 7)
    embedding_gd = np.random.default_rng(0).normal(size=(40, 5))
    unit_gd = embedding_gd / np.linalg.norm(embedding_gd, axis=1, keepdims=True)
    similarity_gg = unit_gd @ unit_gd.T
    np.fill_diagonal(similarity_gg, -2)
    index_gk, cosine_gk = cosine_neighbours(embedding_gd, 6)
    np.testing.assert_array_equal(index_gk, np.argsort(-similarity_gg, axis=1)[:, :6])
    np.testing.assert_allclose(cosine_gk, -np.sort(-similarity_gg, axis=1)[:, :6], atol=1e-6)


def test_no_more_neighbours_than_other_genes():
    index_gk, _ = cosine_neighbours(np.eye(3), 10)
    assert index_gk.shape == (3, 2)
    assert cosine_neighbours(np.eye(1), 10)[0].shape == (1, 0)


@pytest.fixture
def cohort() -> tuple[np.ndarray, pd.DataFrame, Standardizer]:
    """Thirty samples of ten donors, a clean split, and its scaler."""
    x_ng = np.random.default_rng(0).normal(5, 1, (30, 80)).astype(np.float32)
    donor = [f"d{i // 3}" for i in range(30)]
    obs = pd.DataFrame(
        {"donor": donor, "split": ["train"] * 18 + ["val"] * 6 + ["test"] * 6},
        index=[f"s{i}" for i in range(30)],
    )
    return x_ng, obs, Standardizer(80).fit(x_ng, np.arange(18))


def test_audit_passes_a_clean_split(cohort):
    checks, pairs = audit(*cohort)
    assert checks["passed"].all()
    assert pairs.empty


def test_audit_sees_a_donor_in_two_splits(cohort):
    x_ng, obs, scaler = cohort
    obs.loc["s29", "donor"] = "d0"
    checks, _ = audit(x_ng, obs, scaler)
    assert checks["passed"].tolist() == [False, True, True]


def test_audit_sees_a_scaler_fitted_on_everything(cohort):
    x_ng, obs, _ = cohort
    checks, _ = audit(x_ng, obs, Standardizer(80).fit(x_ng))
    assert checks["passed"].tolist() == [True, False, True]


def test_audit_sees_a_sample_filed_twice_under_another_donor(cohort):
    x_ng, obs, scaler = cohort
    x_ng[29] = x_ng[0] + 1e-3
    checks, pairs = audit(x_ng, obs, scaler)
    assert checks["passed"].tolist() == [True, True, False]
    (pair,) = pairs.to_dict("records")
    assert {pair["sample"], pair["other"]} == {"s0", "s29"}
    assert {pair["split"], pair["other_split"]} == {"train", "test"}
    assert not pair["same_donor"]


INTERVALS = {
    ("reconstruction/r2", ""): Interval(0.8, 0.7, 0.9),
    ("reconstruction/r2", "baseline/pca"): Interval(0.02, 0.01, 0.03),
    ("tissue/knn_accuracy", ""): Interval(0.8, 0.7, 0.9),
    ("tissue/knn_accuracy", "baseline/pca"): Interval(-0.02, -0.03, -0.01),
    ("tissue/logreg_accuracy", ""): Interval(0.8, 0.7, 0.9),
    ("tissue/logreg_accuracy", "baseline/pca"): Interval(0.02, -0.01, 0.05),
}


def test_verdicts_follow_the_intervals():
    assert [found.tone for found in compare(INTERVALS)] == ["better", "worse", "open"]
    assert "0.800 against 0.780" in compare(INTERVALS)[0].text
    assert "in 1 of 3 main metrics, worse in 1, and in 1" in headline(INTERVALS)


def test_columns_of_the_map():
    obs = pd.DataFrame(
        {
            "sex": ["F", "M", None],
            "age": ["20-29", "60-69", "20-29"],
            "hardy": [0.0, 2.0, np.nan],
            "release": ["v8"] * 3,
        }
    )
    columns = {column["name"]: column for column in map_columns(obs)}
    assert set(columns) == {"sex", "age", "hardy"}
    assert columns["sex"]["levels"] == ["F", "M", "missing"]
    assert columns["age"]["levels"] == ["20-29", "60-69"]
    assert columns["hardy"]["levels"] == ["0", "2", "missing"]


def test_page_of_seven_thousand_samples_is_small_and_its_text_harmless():
    rng = np.random.default_rng(0)
    n, g, k = 7000, 20_000, 10
    samples = [f"GTEX-{i:05d}-0126-SM-ABCDE" for i in range(n)]
    columns = {f"measure_{i}": rng.normal(size=n) for i in range(25)}
    nasty = "</script><script>alert(1)</script>{{js}}"
    obs = pd.DataFrame(
        {
            "tissue": [nasty if i == 0 else f"tissue {i % 53}" for i in range(n)],
            "donor": [f"GTEX-{i % 700}" for i in range(n)],
            "split": ["train", "val", "test", "train", "test"] * (n // 5),
            **columns,
        },
        index=samples,
    )
    genes = pd.DataFrame(
        {"gene_name": [f"GENE{i}-AS1" for i in range(g)]}, index=[f"ENSG{i:011d}" for i in range(g)]
    )
    for name in ("r2_model", "r2_pca", "imputation_model", "imputation_pca"):
        genes[name] = rng.random(g)
    findings = ReportData(
        run=Path("run"), unit="log2(TPM+1)", obs=obs, genes=genes,
        maps={name: rng.normal(size=(n, 2)).astype(np.float32) for name in ("PCA", "UMAP", "t-SNE")},
        tissues=pd.DataFrame({"samples": [5], "r2_model": [0.5], "r2_pca": [0.4]}, index=["lung"]),
        kl_d=np.ones(64), curves={}, confusion=pd.DataFrame(), gene_embedding="decoder_loadings",
        neighbours_gk=rng.integers(0, g, (g, k)), cosine_gk=rng.random((g, k)).astype(np.float32),
        checks=pd.DataFrame([("donors", True, nasty)], columns=["check", "passed", "finding"]),
        pairs=pd.DataFrame(), metrics={}, intervals=INTERVALS, record={},
    )  # fmt: skip
    page = report(findings, {"confusion": "<svg>" + "x" * 2_000_000 + "</svg>"})
    assert len(page.encode()) < 10_000_000
    assert page.count("<script") == 2
    assert page.count('"use strict"') == 1
