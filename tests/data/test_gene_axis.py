"""Genes as observations: the training samples' matrix turned around, and nothing of the other donors in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gtex_vae.data.datamodule import ExpressionDataModule
from gtex_vae.data.gene_axis import refuse_comparisons
from gtex_vae.data.simulate.bulk import simulate_gtex
from gtex_vae.errors import ConfigError


@pytest.fixture(scope="module")
def adata():
    return simulate_gtex(n_samples=200, n_genes=90, n_donors=30, seed=0)


def set_up(adata: Any, folder: Path, **arguments: Any) -> ExpressionDataModule:
    adata.write_h5ad(folder / "x.h5ad")
    data = ExpressionDataModule("x", str(folder / "x.h5ad"), batch_size=16, **arguments)
    data.setup()
    return data


def test_rows_are_genes_standardized_over_the_training_samples(adata, tmp_path):
    samples = set_up(adata, tmp_path)
    genes = set_up(adata, tmp_path, axis="genes")
    train = samples.rows("train")
    assert genes.adata.shape == (90, len(train))
    assert list(genes.adata.obs_names) == list(adata.var_names)
    assert list(genes.adata.var_names) == list(adata.obs_names[train])
    assert genes.genes["ids"] == list(adata.obs_names[train])
    # the second standardization, of columns over training genes, is undone
    x_gt = np.concatenate([genes.expression(split).numpy() for split in ("train", "val", "test")])
    order = np.concatenate([genes.rows(split) for split in ("train", "val", "test")])
    x_gt = (x_gt * genes.scaler.scale_g.numpy() + genes.scaler.center_g.numpy())[np.argsort(order)]
    np.testing.assert_allclose(x_gt, samples.expression("train").numpy().T, atol=1e-4)


def test_nothing_of_other_donors_is_in_it(adata, tmp_path):
    before = set_up(adata, tmp_path, axis="genes")
    held_out = ~adata.obs_names.isin(before.adata.var_names)
    assert 0.2 < held_out.mean() < 0.4
    donors = adata.obs["donor"]
    assert not set(donors[held_out]) & set(donors[~held_out])
    changed = adata.copy()
    changed.X[held_out] = 99.0
    after = set_up(changed, tmp_path, axis="genes")
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(before.expression(split), after.expression(split))


def test_both_splits_are_written(adata, tmp_path):
    data = set_up(adata, tmp_path, axis="genes", val=0.15, test=0.25)
    data.write_splits(tmp_path / "splits.csv")
    samples = pd.read_csv(tmp_path / "splits.csv", dtype=str)
    assert samples["sample"].tolist() == list(adata.obs_names)
    assert samples["donor"].tolist() == adata.obs["donor"].astype(str).tolist()
    genes = pd.read_csv(tmp_path / "gene_splits.csv").set_index("sample")["split"]
    assert list(genes.index) == list(adata.var_names)
    assert genes.value_counts(normalize=True).round(2).to_dict() == pytest.approx(
        {"train": 0.6, "val": 0.15, "test": 0.25}, abs=0.02
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axis": "gene"}, "data.axis=gene is neither"),
        ({"axis": "genes", "covariates": ["sex"]}, "of samples"),
        ({"axis": "genes", "memory_gib": 1.0}, "data.memory_gib=null"),
    ],
)
def test_impossible_values_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ExpressionDataModule("x", "x.h5ad", **arguments)


@pytest.mark.parametrize("compared", ["contrastive", "alignment"])
def test_genes_are_not_compared_by_tissue_or_donor(compared):
    with pytest.raises(ConfigError, match=f"no donor that {compared}"):
        refuse_comparisons({"data": {"axis": "genes"}, compared: {}})
    refuse_comparisons({"data": {"axis": "samples"}, compared: {}})
