from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from gtex_vae.analysis.metrics.bootstrap import Interval
from gtex_vae.analysis.report.page import report
from gtex_vae.analysis.report.report_data import ReportData

INTERVALS = {
    ("reconstruction/r2", ""): Interval(0.8, 0.7, 0.9),
    ("reconstruction/r2", "baseline/pca"): Interval(0.02, 0.01, 0.03),
    ("tissue/knn_accuracy", ""): Interval(0.8, 0.7, 0.9),
    ("tissue/knn_accuracy", "baseline/pca"): Interval(-0.02, -0.03, -0.01),
    ("tissue/logreg_accuracy", ""): Interval(0.8, 0.7, 0.9),
    ("tissue/logreg_accuracy", "baseline/pca"): Interval(0.02, -0.01, 0.05),
}


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
