"""``python -m gtex_vae.generate``: its samples can be read by other commands, and are audited."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from gtex_vae.data.preprocess import processed
from gtex_vae.inference.trained_model import TrainedModel


@pytest.fixture(scope="module")
def run(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generate")
    done = train(folder / "run")
    assert done.code == 0, done.stderr
    return folder / "run"


def test_samples_of_tissues_with_their_audit(run, command):
    folder = run.parent / "tissue"
    done = command("gtex_vae.generate", f"run={run}", "n_samples=80", f"hydra.run.dir={folder}")
    assert done.code == 0, done.stderr
    adata = processed.read(folder / "synthetic.h5ad")
    model = TrainedModel.load(run / "model")
    assert adata.shape == (80, len(model.gene_ids)) and list(adata.var_names) == model.gene_ids
    assert adata.obs["donor"].is_unique and (adata.obs["how"] == "tissue").all()
    assert adata.uns["expression"]["unit"] == model.unit and adata.X.min() >= 0
    record = json.loads(adata.uns["provenance"]["record"])
    assert record["run"] == str(run) and record["model"] == model.digest
    train_obs = pd.read_csv(run / "splits.csv").query("split == 'train'")
    assert len(train_obs) > 0
    audit = json.loads((folder / "audit.json").read_text())
    table = pd.read_csv(folder / "audit.csv", index_col=0)
    assert table.index.tolist() == ["model", "model, without noise", "PCA", "training samples"]
    assert table.loc["model", "mmd2"] == pytest.approx(audit["mmd2"], rel=1e-4, abs=1e-6)
    assert table.loc["PCA", "too_near"] == pytest.approx(audit["baseline/pca/too_near"])
    assert table.loc["model, without noise", "variance"] < table.loc["model", "variance"]
    # equal seeds give equal samples, which embed near their latent positions
    again = command("gtex_vae.generate", f"run={run}", "n_samples=80", f"hydra.run.dir={folder}2")
    assert again.code == 0, again.stderr
    np.testing.assert_array_equal(adata.X, processed.read(run.parent / "tissue2" / "synthetic.h5ad").X)


def test_prior_interpolation_and_refusals(run, command):
    done = command(
        "gtex_vae.generate",
        f"run={run}",
        "how=prior",
        "n_samples=40",
        f"hydra.run.dir={run.parent / 'prior'}",
    )
    assert done.code == 0, done.stderr
    adata = processed.read(run.parent / "prior" / "synthetic.h5ad")
    assert adata.obs["tissue"].isna().all() and adata.obs["nearest_tissue"].notna().all()
    assert json.loads((run.parent / "prior" / "audit.json").read_text())["tissue_accuracy"] is None

    sample = pd.read_csv(run / "splits.csv")["sample"][0]
    tissue = adata.obs["nearest_tissue"].iloc[0]
    ends = f"between=[{sample},'{tissue}']"
    done = command("gtex_vae.generate", f"run={run}", "how=interpolation", "n_samples=7", ends,
                   f"hydra.run.dir={run.parent / 'path'}")  # fmt: skip
    assert done.code == 0, done.stderr
    adata = processed.read(run.parent / "path" / "synthetic.h5ad")
    z_nd = adata.obsm["X_latent"]
    np.testing.assert_allclose(np.diff(z_nd, axis=0), np.tile((z_nd[-1] - z_nd[0]) / 6, (6, 1)), atol=1e-5)
    assert adata.obs["share_of_second"].tolist() == pytest.approx([i / 6 for i in range(7)])
    assert not (run.parent / "path" / "audit.json").exists()

    for wrong, message in (
        (["tissues=[Nowhere]"], "tissues: the training samples have no 'Nowhere'"),
        (["how=prior", f"tissues=['{tissue}']"], "is for how=tissue"),
        (["how=interpolation"], "needs two tissues or sample ids"),
        (["how=interpolation", "between=[a,b]"], "neither a sample of the run nor a tissue"),
        (["n_samples=1"], "must be at least 2"),
        (["how=dreams"], "how='dreams'"),
    ):
        done = command("gtex_vae.generate", f"run={run}", *wrong, cwd=run.parent)
        assert done.code == 1 and message in done.stderr, (wrong, done.stderr)
        assert done.stderr.count("\n") == 1
