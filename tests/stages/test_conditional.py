"""``+experiment=conditional`` on the demo, from training to counterfactuals."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

SMALL = ("data.prepare.n_samples=1200", "trainer.max_epochs=3", "model.latent_dim=8")


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory) -> Path:
    """Folder with a tiny conditional run, its data, and that without annotations."""
    folder = tmp_path_factory.mktemp("conditional")
    done = train(folder / "run", "+experiment=conditional", *SMALL, f"paths.data={folder / 'data'}")
    assert done.code == 0, done.stderr
    bare = anndata.read_h5ad(folder / "data/processed/demo.h5ad")
    anndata.AnnData(bare.X, obs=bare.obs[[]], var=bare.var, uns={"expression": bare.uns["expression"]}).write_h5ad(
        folder / "bare.h5ad"
    )  # fmt: skip
    return folder


def test_the_latent_knows_less_of_the_covariates_when_it_is_told_them(trained, command):
    done = command("gtex_vae.evaluate", "run=run", cwd=trained)
    assert done.code == 0, done.stderr
    told = pd.read_csv(trained / "run/evaluation/covariates.csv", index_col=0)
    done = command("gtex_vae.evaluate", "run=run", "input=bare.h5ad", cwd=trained)
    assert done.code == 0, done.stderr
    untold = json.loads((trained / "run/evaluation/bare/metrics.json").read_text())
    assert np.isfinite(untold["reconstruction/r2"])
    assert told.loc["ischemic_time", "latent"] < max(told.loc["ischemic_time", "tissue"], 0.0) + 0.1


def test_a_counterfactual_moves_towards_the_simulated_truth(trained, command):
    done = command(
        "gtex_vae.encode", "run=run", "input=data/processed/demo.h5ad", "as_if={ischemic_time: 0}",
        "hydra.run.dir=encoded", cwd=trained,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    made = anndata.read_h5ad(trained / "encoded/expression.h5ad")
    truth = anndata.read_h5ad(trained / "data/processed/demo.h5ad")
    change_ng = made.layers["as_if"] - made.X
    effect_g = truth.varm["truth_effects"]["ischemic_time"].to_numpy()
    fold_ng = -truth.obsm["truth_covariates"]["ischemic_time"].to_numpy()[:, None] * effect_g
    tpm_ng = (np.exp2(truth.X) - 1.0) * np.exp2(fold_ng)
    wanted_ng = np.log2(1e6 * tpm_ng / tpm_ng.sum(1, keepdims=True) + 1.0) - truth.X
    long = (truth.obs["ischemic_time"] > 300).to_numpy()
    assert np.corrcoef(change_ng[long].ravel(), wanted_ng[long].ravel())[0, 1] > 0.5
    assert np.square(change_ng - wanted_ng)[long].mean() < 0.8 * np.square(wanted_ng[long]).mean()
    already = (truth.obs["ischemic_time"] == 0).to_numpy()
    np.testing.assert_allclose(change_ng[already], 0.0, atol=1e-4)


def test_data_without_the_columns_is_encoded_and_says_so(trained, command):
    done = command("gtex_vae.encode", "run=run", "input=bare.h5ad", "hydra.run.dir=bare", cwd=trained)
    assert done.code == 0, done.stderr
    assert "ischemic_time is unknown for 1200 of 1200 samples" in done.stdout
    table = trained / "table.csv"
    obs = anndata.read_h5ad(trained / "data/processed/demo.h5ad").obs
    obs.rename_axis("sample")[["ischemic_time", "rin", "batch", "sex", "age"]].to_csv(table)
    told = command(
        "gtex_vae.encode", "run=run", "input=bare.h5ad", f"annotations=[{table}]", "hydra.run.dir=told", cwd=trained
    )  # fmt: skip
    assert told.code == 0, told.stderr
    assert "unknown" not in told.stdout
    bare, full = (anndata.read_h5ad(trained / name / "embeddings.h5ad").X for name in ("bare", "told"))
    assert np.abs(bare - full).max() > 1e-3
    own = command(
        "gtex_vae.encode", "run=run", "input=data/processed/demo.h5ad", "hydra.run.dir=own", cwd=trained
    )
    assert own.code == 0, own.stderr
    np.testing.assert_allclose(anndata.read_h5ad(trained / "own/embeddings.h5ad").X, full, atol=1e-4)


def test_synthetic_samples_have_covariates_of_their_tissue(trained, command):
    done = command("gtex_vae.generate", "run=run", "n_samples=60", "hydra.run.dir=synthetic", cwd=trained)
    assert done.code == 0, done.stderr
    made = anndata.read_h5ad(trained / "synthetic/synthetic.h5ad").obs
    real = anndata.read_h5ad(trained / "data/processed/demo.h5ad").obs
    for row in made.itertuples():
        assert row.ischemic_time in real.loc[real["tissue"] == row.tissue, "ischemic_time"].to_numpy()
    assert set(made["sex"]) == set(real["sex"])
