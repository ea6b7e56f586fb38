from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gtex_vae.analysis.metrics import reconstruction_tables as tables
from gtex_vae.analysis.metrics.reconstruction import reconstruction_metrics
from gtex_vae.analysis.metrics.reconstruction_tables import gene_spearman, gene_table, tissue_table


def pair(n: int = 90, g: int = 25, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x_ng = random.normal(size=(n, g)).round(1).astype(np.float32)
    return x_ng, x_ng + random.normal(size=(n, g)).round(1).astype(np.float32)


@pytest.mark.parametrize("genes_at_a_time", [4, 1000])
def test_spearman_agrees_with_scipy_with_ties(genes_at_a_time, monkeypatch):
    from scipy.stats import spearmanr

    monkeypatch.setattr(tables, "GENES_AT_A_TIME", genes_at_a_time)
    x_ng, y_ng = pair()
    expected = [spearmanr(a, b).statistic for a, b in zip(x_ng.T, y_ng.T, strict=True)]
    np.testing.assert_allclose(gene_spearman(x_ng, y_ng), expected, atol=1e-9)


def test_spearman_sees_order_only():
    x_ng, y_ng = pair()
    np.testing.assert_allclose(gene_spearman(np.exp(x_ng), y_ng**3), gene_spearman(x_ng, y_ng), atol=1e-12)
    x_ng[:, 0] = 5
    y_ng[:, 1] = 5
    found = gene_spearman(x_ng, y_ng)
    assert np.isnan(found[0])
    assert found[1] == 0


def test_gene_table_holds_the_genes_behind_the_medians():
    x_ng, y_ng = pair()
    ids = pd.Index([f"ENSG{i:011d}" for i in range(25)], name="gene_id")
    table = gene_table(x_ng, y_ng, ids, [f"name {i}" for i in range(25)])
    metrics = reconstruction_metrics(x_ng, y_ng)
    assert table.index.equals(ids)
    assert list(table) == ["gene_name", "mse", "r2", "pearson", "spearman"]
    assert table["mse"].mean() == pytest.approx(metrics["reconstruction/mse"])
    assert table["r2"].median() == pytest.approx(metrics["reconstruction/gene_r2_median"])
    assert table["pearson"].median() == pytest.approx(metrics["reconstruction/gene_pearson_median"])


def test_tissue_table_scores_each_tissue_alone():
    x_ng, y_ng = pair()
    labels = np.array(["lung", "liver", None] * 30, dtype=object)
    labels[0] = "rare"
    table = tissue_table(x_ng, y_ng, labels)
    assert list(table.index) == ["liver", "lung", "rare"]
    assert list(table["samples"]) == [30, 29, 1]
    liver = labels == "liver"
    assert table.loc["liver", "r2"] == pytest.approx(
        reconstruction_metrics(x_ng[liver], y_ng[liver])["reconstruction/r2"]
    )
    expected = np.median(gene_spearman(x_ng[liver], y_ng[liver]))
    assert table.loc["liver", "gene_spearman_median"] == pytest.approx(expected)
    assert table.loc["rare"].isna().sum() == 3


def test_a_tissue_mean_explains_nothing_within_the_tissue():
    x_ng, _ = pair(60)
    labels = np.repeat(["a", "b"], 30)
    x_ng[:30] += 5
    means = np.array([x_ng[labels == label].mean(0) for label in labels])
    table = tissue_table(x_ng, means, labels)
    assert reconstruction_metrics(x_ng, means)["reconstruction/r2"] > 0.8
    np.testing.assert_allclose(table["gene_r2_median"], 0, atol=1e-5)
    np.testing.assert_allclose(table[["gene_pearson_median", "gene_spearman_median"]], 0, atol=1e-5)
