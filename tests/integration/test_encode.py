"""``python -m gtex_vae.encode`` as a user runs it, on a run that was trained, and on its own outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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

SOURCE = Path(__file__).parents[2] / "src"
TINY = (
    "data.prepare.n_samples=150",
    "data.prepare.n_genes=120",
    "data.val=0.2",
    "data.test=0.3",
    "data.batch_size=16",
    "model.hidden_dims=[32]",
    "model.latent_dim=8",
    "trainer.max_epochs=3",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
)


def command(module: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environ = {
        **os.environ,
        "PYTHONPATH": f"{SOURCE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "agg",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=cwd, env=environ, capture_output=True, text=True
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a tiny trained run in it, and the processed file it was trained on."""
    folder = tmp_path_factory.mktemp("encode")
    done = command("gtex_vae.train", *TINY, "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def encoded(trained: Path) -> Path:
    """The run directory of one encode with everything asked for, half of whose genes are missing."""
    adata = anndata.read_h5ad(trained / "data/processed/demo.h5ad")[:, 40:]
    adata.write_h5ad(trained / "part.h5ad")
    done = command(
        "gtex_vae.encode", "run=run", "input=part.h5ad", "hydra.run.dir=encoded", "batch_size=64",
        "sd=true", "impute=true", "reconstruct=true", "export=true", cwd=trained,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
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
    pd.testing.assert_frame_equal(embedded.obs, part.obs)
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


def test_too_few_genes_are_one_line(trained, encoded):
    done = command("gtex_vae.encode", "run=run", "input=part.h5ad", "min_overlap=0.9", cwd=trained)
    assert done.returncode == 1
    assert "only 80 of the model's 120 genes (66.7%)" in done.stderr and done.stderr.count("\n") == 1


def settings(**changed):
    keys = dict.fromkeys(EncodeConfig.__dataclass_fields__)
    off = dict.fromkeys(("sd", "impute", "reconstruct", "export", "overwrite"), False)
    given = {"input": "x", "min_overlap": 0.5, "batch_size": 512, "paths": {}, **changed}
    return OmegaConf.create({**keys, **off, **given})


def interrupted(config, run_dir):
    raise KeyboardInterrupt


def test_run_names_the_trained_run_and_resumes_nothing(tmp_path):
    started = []
    with pytest.raises(KeyboardInterrupt):
        run_stage(interrupted, EncodeConfig, settings(run="a"), tmp_path, ["run=a", "sd=false"])
    with pytest.raises(RunError, match=r"other settings \(run\)"):
        run_stage(interrupted, EncodeConfig, settings(run="b"), tmp_path, ["run=b"])
    run_stage(lambda config, _: started.append(config.run), EncodeConfig, settings(run="a"), tmp_path, [])
    assert started == ["a"]
    with pytest.raises(RunError, match="finished run"):
        run_stage(interrupted, EncodeConfig, settings(run="a"), tmp_path, [])
