"""Nearly identical samples are named when a file is made and when it is split for training."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from gtex_vae.data.datamodule import ExpressionDataModule
from gtex_vae.data.preprocess.near_duplicates import near_duplicates, warn_of_duplicates
from gtex_vae.data.preprocess.processed import make_processed, read

N, G = 60, 40


def write_matrix(folder: Path) -> dict[str, object]:
    """Write counts of 60 samples of 30 donors; S1 is a copy of S40, and S3 a copy of S2 of the same donor."""
    from gtex_vae.data.genes.table import bundled_genes

    rng = np.random.default_rng(0)
    genes = list(bundled_genes().of_biotype().frame.index[:G])
    x_ng = np.exp2(rng.normal(6, 2, (N, G))).round(1)
    x_ng[1], x_ng[3] = x_ng[40], x_ng[2]
    samples = [f"S{i}" for i in range(N)]
    pd.DataFrame(x_ng.T, index=genes, columns=samples).to_csv(
        folder / "x.tsv", sep="\t", index_label="gene_id"
    )
    obs = pd.DataFrame({"sample": samples, "donor": [f"D{i // 2}" for i in range(N)], "tissue": "lung"})
    obs.to_csv(folder / "samples.csv", index=False)
    return {
        "_target_": "gtex_vae.data.preprocess.prepare.prepare_matrix", "path": str(folder / "x.tsv"),
        "annotations": [str(folder / "samples.csv")], "unit": "tpm",
    }  # fmt: skip


@pytest.mark.parametrize("in_chunks", [False, True])
def test_preprocess_and_train_name_copies_under_different_donors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, in_chunks: bool
) -> None:
    path = tmp_path / "processed.h5ad"
    make_processed(path, write_matrix(tmp_path), in_chunks=in_chunks)
    with caplog.at_level(logging.WARNING, "gtex_vae"):
        warn_of_duplicates(read(path))
    assert "1 pairs of samples of different donors are nearly identical" in caplog.text
    assert "S1 (D0) and S40 (D20)" in caplog.text
    assert "S2" not in caplog.text  # replicates of one donor
    caplog.clear()
    split = pd.DataFrame(
        {"sample": [f"S{i}" for i in range(N)], "split": ["train"] * 30 + ["val"] * 8 + ["test"] * 22}
    )
    split.to_csv(tmp_path / "splits.csv", index=False)
    with caplog.at_level(logging.WARNING, "gtex_vae"):
        ExpressionDataModule("x", str(path), splits=str(tmp_path / "splits.csv"), batch_size=8).setup()
    assert "in different splits are nearly identical" in caplog.text
    assert "S1 (train) and S40 (test)" in caplog.text


def test_a_file_without_the_record_is_searched_and_a_clean_one_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "processed.h5ad"
    make_processed(path, write_matrix(tmp_path))
    adata: ad.AnnData = read(path)
    del adata.uns["provenance"]["near_duplicates"]
    with caplog.at_level(logging.WARNING, "gtex_vae"):
        warn_of_duplicates(adata)
        assert "S1 (D0) and S40 (D20)" in caplog.text
        caplog.clear()
        warn_of_duplicates(adata[4:30].copy())
    assert not caplog.text


@pytest.mark.parametrize("layout", [np.asarray, sp.csr_array])
def test_near_duplicates_are_found_and_only_they(tissue_data: Any, layout: Any) -> None:
    x, obs = tissue_data(n=60)
    rng = np.random.default_rng(1)
    x[10] = x[40] + rng.normal(0, 0.02, x.shape[1])
    x[11] = x[12]
    found = near_duplicates(layout(x), obs.index)
    assert [{row["sample"], row["other"]} for _, row in found.iterrows()] == [{"s11", "s12"}, {"s10", "s40"}]
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    np.testing.assert_allclose(found["correlation"], [1.0, np.corrcoef(z[10], z[40])[0, 1]], atol=1e-5)


def test_projection_misses_no_pair(tissue_data: Any) -> None:
    x, obs = tissue_data(n=150, g=80)
    x[75:] = x[:75] + np.random.default_rng(2).normal(0, 0.35, (75, 80)).astype(np.float32)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    exact = np.triu(np.corrcoef(z), k=1) >= 0.9
    assert len(near_duplicates(x, obs.index, threshold=0.9)) == exact.sum() > 10
