"""A run writes exactly the files that CONTRACT.md lists; its directory is claimed, marked and resumed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.runs.lock import locked
from gtex_vae.training.module import VAEModule

FILES = {
    "config.yaml", "checkpoints/best.ckpt", "checkpoints/best.json", "checkpoints/last.ckpt",
    "model/weights.safetensors", "model/model.json", "model/reference.safetensors", "model/README.md", "model/pca.safetensors",
    "splits.csv", "metrics.json", "log.txt", "provenance.json", "data_paths.json", "SUCCESS",
}  # fmt: skip
RECONSTRUCTION = {
    f"reconstruction/{key}" for key in ("mse", "mae", "r2", "gene_r2_median", "gene_pearson_median")
}
IMPUTATION = {f"imputation/r2_{percent}" for percent in ("05", "20", "50")}
LATENT = {"latent/active_units", "tissue/knn_accuracy", "tissue/logreg_accuracy"}
MODEL = RECONSTRUCTION | IMPUTATION | LATENT
KEYS = (
    MODEL
    | {"rate/kl_nats", "elbo/nats_per_gene"}
    | {f"baseline/pca/{key}" for key in MODEL}
    | {f"baseline/mean/{key}" for key in RECONSTRUCTION | IMPUTATION}
)


@pytest.fixture(scope="module")
def run_dir(train, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    done = train(folder)
    assert done.code == 0, done.stderr
    assert done.stderr == ""  # nothing to worry a user
    for word in ("held-out donors", "PCA", "tensorboard --logdir", str(folder)):
        assert word in done.stdout
    return folder


def test_files(run_dir):
    found = {path.relative_to(run_dir).as_posix() for path in run_dir.rglob("*") if path.is_file()}
    seen = {name for name in found if not name.startswith((".hydra/", "tensorboard/"))}
    assert seen == FILES
    assert any(name.startswith("tensorboard/events") for name in found)
    log = (run_dir / "log.txt").read_text()
    assert "epoch 4/4" in log


def test_config_and_provenance(run_dir):
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert config["model"]["latent_dim"] == 8
    assert "${" not in (run_dir / "config.yaml").read_text()
    record = json.loads((run_dir / "provenance.json").read_text())
    assert record["config"] == config
    assert {"version", "git", "packages", "command", "python"} <= set(record)


def test_checkpoints_are_plain(run_dir):
    for name in ("best", "last"):
        checkpoint = torch.load(run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["hyper_parameters"]["model"]["latent_dim"] == 8
        assert all(torch.isfinite(value.float()).all() for value in checkpoint["state_dict"].values())


def test_the_saved_model_embeds_as_the_best_checkpoint(run_dir, tiny_data):
    import anndata

    checkpoint = torch.load(run_dir / "checkpoints" / "best.ckpt", weights_only=True)
    module = VAEModule(**checkpoint["hyper_parameters"])
    module.load_state_dict(checkpoint["state_dict"])
    model = TrainedModel.load(run_dir / "model")
    adata = anndata.read_h5ad(tiny_data / "processed" / "demo.h5ad")
    assert model.gene_ids == list(adata.var_names)
    x_ng = model.scaler(torch.from_numpy(adata.X))
    expected = module.eval().vae.embed(x_ng).detach().numpy()
    got = model.embed(x_ng.numpy())
    assert got.shape == (150, 8)
    assert np.array_equal(got, expected)
    train_rows = pd.read_csv(run_dir / "splits.csv")["split"].to_numpy() == "train"
    assert np.allclose(x_ng.numpy()[train_rows].mean(0), 0.0, atol=1e-4)  # the scaler saw these samples alone


def test_no_donor_in_two_splits(run_dir):
    table = pd.read_csv(run_dir / "splits.csv")
    assert list(table.columns) == ["sample", "donor", "split"]
    assert set(table["split"]) == {"train", "val", "test"}
    assert len(table) == 150
    assert table["sample"].is_unique
    assert table.groupby("donor")["split"].nunique().max() == 1


def test_metrics(run_dir):
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert set(metrics) >= KEYS
    assert all(isinstance(value, int | float) and np.isfinite(value) for value in metrics.values())
    for percent in ("05", "20", "50"):
        assert metrics[f"baseline/mean/imputation/r2_{percent}"] == 0.0
    assert metrics["reconstruction/r2"] > metrics["baseline/mean/reconstruction/r2"] + 0.2


def test_a_finished_run_is_left_alone_unless_told(run_dir, train, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    refused = train(copy)
    assert refused.code == 1
    assert "finished run" in refused.stderr
    assert "overwrite=true" in refused.stderr
    assert (copy / "metrics.json").read_bytes() == (run_dir / "metrics.json").read_bytes()
    (copy / "evaluation").mkdir()
    done = train(copy, "seed=3", "overwrite=true")
    assert done.code == 0, done.stderr
    assert not (copy / "evaluation").exists()  # it belonged to the other model
    assert (copy / "metrics.json").read_bytes() != (run_dir / "metrics.json").read_bytes()


def test_a_failed_run_says_why_and_goes_on_when_mended(run_dir, command, tiny_data, tmp_path):
    from gtex_vae.data.preprocess.processed import read

    adata = read(tiny_data / "processed" / "demo.h5ad")
    adata.X[7, 3] = np.nan
    adata.write_h5ad(tmp_path / "mine.h5ad")
    arguments = (
        f"data.processed={tmp_path / 'mine.h5ad'}", "data.prepare=null", "data.val=0.2", "data.test=0.3",
        "data.batch_size=16", "model.hidden_dims=[32]", "model.latent_dim=8", "trainer.max_epochs=4",
        "trainer.accelerator=cpu", "trainer.precision=32-true", f"hydra.run.dir={tmp_path / 'run'}",
    )  # fmt: skip
    failed = command("gtex_vae.train", *arguments)
    assert failed.code == 1
    assert len(failed.stderr.strip().splitlines()) == 1
    reason = (tmp_path / "run" / "FAILED").read_text()
    for text in (failed.stderr, reason.splitlines()[0]):
        assert adata.obs_names[7] in text
        assert adata.var_names[3] in text
    assert "Traceback" in reason
    assert "Traceback" in (tmp_path / "run" / "log.txt").read_text()
    assert "Traceback" not in failed.stdout + failed.stderr
    shutil.copy(tiny_data / "processed" / "demo.h5ad", tmp_path / "mine.h5ad")
    done = command("gtex_vae.train", *arguments)
    assert done.code == 0, done.stderr
    assert not (tmp_path / "run" / "FAILED").exists()
    same = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert same == json.loads((run_dir / "metrics.json").read_text())


def test_other_settings_do_not_go_on_with_an_unfinished_run(train, tmp_path):
    kill = ("gtex_vae.training.finish:measure", 1)
    assert train(tmp_path, die=kill).code < 0
    refused = train(tmp_path, "model.dropout=0.3")
    assert refused.code == 1
    assert "model.dropout" in refused.stderr
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_a_directory_in_use_is_refused_and_nothing_in_it_changes(train, tmp_path):
    def snapshot() -> dict[str, bytes]:
        return {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    with locked(tmp_path):
        before = snapshot()
        done = train(tmp_path, "trainer.max_epochs=1")
        assert done.code == 1
        assert f"{tmp_path} is in use by process {os.getpid()} on" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert snapshot() == before


def test_relative_directories_are_where_the_command_is_typed(command, tmp_path):
    done = command(
        "gtex_vae.train", "data.prepare.n_samples=150", "data.prepare.n_genes=120", "data.val=0.2", "data.test=0.3",
        "data.batch_size=16", "model.hidden_dims=[8]", "model.latent_dim=2", "trainer.max_epochs=1",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"data", "outputs"}
    (run,) = (tmp_path / "outputs" / "train" / "runs").iterdir()
    assert (run / "SUCCESS").exists()
