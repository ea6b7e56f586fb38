"""``python -m gtex_vae.encode`` on a trained run and on its own outputs."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

import gtex_vae
from gtex_vae.encode import EncodeConfig
from gtex_vae.errors import RunError
from gtex_vae.stage import run_stage


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory) -> Path:
    """Folder with a tiny trained run in it, and a part of what it was trained on: a third of the genes is missing."""
    folder = tmp_path_factory.mktemp("encode")
    done = train(folder / "run", "trainer.max_epochs=3", f"paths.data={folder / 'data'}")
    assert done.code == 0, done.stderr
    anndata.read_h5ad(folder / "data/processed/demo.h5ad")[:, 40:].write_h5ad(folder / "part.h5ad")
    return folder


@pytest.fixture(scope="module")
def encoded(command, trained: Path) -> Path:
    """The run directory of one encode with everything asked for."""
    done = command(
        "gtex_vae.encode", "run=run", "input=part.h5ad", "hydra.run.dir=encoded", "batch_size=64",
        "sd=true", "impute=true", "interval=0.9", "reconstruct=true", "export=true", cwd=trained,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert "150 samples, 66.7 % of the model's 120 genes" in done.stdout
    return trained / "encoded"


def test_a_trained_run_embeds_its_own_samples_as_training_did(trained):
    model = gtex_vae.load(trained / "run")
    adata = anndata.read_h5ad(trained / "data/processed/demo.h5ad")
    standard_ng = model.scaler(torch.from_numpy(np.asarray(adata.X))).numpy()
    np.testing.assert_allclose(model.encode(adata).X, model.embed(standard_ng), atol=1e-5)


def test_the_command_writes_what_python_gives(trained, encoded):
    model = gtex_vae.load(trained / "run")
    part = anndata.read_h5ad(trained / "part.h5ad")
    embedded, expected = (
        anndata.read_h5ad(encoded / "embeddings.h5ad"),
        model.encode(part, sd=True, impute=True),
    )
    np.testing.assert_allclose(embedded.X, expected.X, atol=1e-5)
    np.testing.assert_allclose(embedded.layers["sd"], expected.layers["sd"], atol=1e-5)
    pd.testing.assert_frame_equal(embedded.obs[list(part.obs)], part.obs)
    np.testing.assert_allclose(embedded.obs["ood_score"], expected.obs["ood_score"], rtol=1e-3)
    assert set(embedded.obs["ood_verdict"]) <= {"well inside", "at the edge", "outside"}
    assert embedded.uns["embedding"]["model_sha256"] == model.digest
    assert embedded.uns["embedding"]["run"] == "run" and len(embedded.uns["embedding"]["input_sha256"]) == 64

    frame = pd.read_parquet(encoded / "embeddings.parquet")
    assert list(frame.index) == list(part.obs_names)
    np.testing.assert_array_equal(frame.to_numpy(), np.hstack([embedded.X, embedded.layers["sd"]]))

    report = json.loads((encoded / "alignment.json").read_text())
    assert (report["samples"], report["present"], report["missing"]["count"]) == (150, 80, 40)
    assert report["missing_filled_with"] == "the model's prediction"

    expression, imputed = anndata.read_h5ad(encoded / "expression.h5ad"), model.impute(part)
    np.testing.assert_allclose(expression.X, imputed.X, atol=1e-4)
    np.testing.assert_allclose(
        expression.layers["reconstruction"], imputed.layers["reconstruction"], atol=1e-4
    )
    # what was written is an input like any other
    np.testing.assert_allclose(model.encode(expression).X, embedded.X, atol=1e-3)
    program = torch.export.load(encoded / "model.pt2").module()
    np.testing.assert_allclose(program(torch.from_numpy(expression.X)).detach(), embedded.X, atol=1e-3)


def test_the_file_holds_posterior_means_in_x_and_their_spread_in_sd(command, trained):
    """Compared with the encoder's own output: with anndata 0.13 a loop over layers reaches X too."""
    model = gtex_vae.load(trained / "run")
    done = command(
        "gtex_vae.encode", "run=run", "input=data/processed/demo.h5ad", "sd=true", "hydra.run.dir=means", cwd=trained
    )  # fmt: skip
    assert done.code == 0, done.stderr
    written = anndata.read_h5ad(trained / "means/embeddings.h5ad")
    table = pd.read_parquet(trained / "means/embeddings.parquet").to_numpy()
    adata = anndata.read_h5ad(trained / "data/processed/demo.h5ad")
    mean_nd = model.embed(model.scaler(torch.from_numpy(np.asarray(adata.X))).numpy())
    np.testing.assert_allclose(written.X, mean_nd, atol=1e-5)
    assert (written.layers["sd"] > 0).all() and abs(written.X - written.layers["sd"]).max() > 1
    np.testing.assert_array_equal(table, np.hstack([written.X, written.layers["sd"]]))
    python = model.encode(adata, sd=True)
    np.testing.assert_allclose(python.X, mean_nd, atol=1e-5)
    np.testing.assert_allclose(python.layers["sd"], written.layers["sd"], atol=1e-5)


def test_intervals_bound_what_was_imputed(encoded):
    expression = anndata.read_h5ad(encoded / "expression.h5ad")
    low_ng, high_ng = expression.layers["lower"], expression.layers["upper"]
    measured_g = expression.var["measured"].to_numpy()
    for bound_ng in (low_ng, high_ng):
        np.testing.assert_array_equal(bound_ng[:, measured_g], expression.X[:, measured_g])
    assert (low_ng >= 0).all() and (high_ng[:, ~measured_g] > low_ng[:, ~measured_g]).mean() > 0.99
    within = (low_ng <= expression.X + 1e-5) & (high_ng + 1e-5 >= expression.X)
    assert within[:, ~measured_g].mean() > 0.95  # the prediction lies within its own interval


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["interval=0.7", "impute=true"], "must be one of 0.5, 0.8"), (["interval=0.9"], "add impute=true")],
)
def test_an_interval_that_cannot_be_given_is_one_line(command, trained, arguments, message):
    done = command("gtex_vae.encode", "run=run", "input=part.h5ad", *arguments, cwd=trained)
    assert done.code == 1
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_too_few_genes_are_one_line(command, trained):
    done = command("gtex_vae.encode", "run=run", "input=part.h5ad", "min_overlap=0.9", cwd=trained)
    assert done.code == 1
    assert "only 80 of the model's 120 genes (66.7%)" in done.stderr and done.stderr.count("\n") == 1


def settings(**changed):
    keys = dict.fromkeys(EncodeConfig.__dataclass_fields__)
    off = dict.fromkeys(("sd", "impute", "reconstruct", "export", "overwrite"), False)
    given = {"input": "x", "min_overlap": 0.5, "batch_size": 512, "paths": {}, "annotations": [], **changed}
    return OmegaConf.create({**keys, **off, **given})


def interrupted(config, run_dir):
    raise KeyboardInterrupt


def test_run_names_the_trained_run_and_resumes_nothing(tmp_path):
    started = []
    with pytest.raises(KeyboardInterrupt):
        run_stage(interrupted, EncodeConfig, settings(run="a"), tmp_path, ["run=a", "sd=false"])
    (tmp_path / "FAILED").unlink()  # as a kill would leave it
    with pytest.raises(RunError, match=r"other settings \(run\)"):
        run_stage(interrupted, EncodeConfig, settings(run="b"), tmp_path, ["run=b"])
    run_stage(lambda config, _: started.append(config.run), EncodeConfig, settings(run="a"), tmp_path, [])
    assert started == ["a"]
    with pytest.raises(RunError, match="finished run"):
        run_stage(interrupted, EncodeConfig, settings(run="a"), tmp_path, [])
