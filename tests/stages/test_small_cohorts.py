"""The default command on 30, 80 and 100 samples, some of them without a donor."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from gtex_vae.data.simulate.bulk import simulate_gtex

# networks and epochs are small for speed; latent size, components and batch are the defaults
FAST = (
    "model.hidden_dims=[16]",
    "model.n_members=1",
    "trainer.max_epochs=2",
    "callbacks.kl_annealing.ratio=0.5",
)


def cohort(folder: Path, n_samples: int, *, without_donor: int = 0) -> tuple[str, ...]:
    """Write a cohort with about two samples per donor and return the overrides that train on it."""
    adata = simulate_gtex(n_samples=n_samples, n_genes=150, n_donors=n_samples // 2, seed=1)
    adata.obs["donor"] = adata.obs["donor"].astype(object)
    adata.obs.iloc[:without_donor, adata.obs.columns.get_loc("donor")] = None
    adata.write_h5ad(folder / "cohort.h5ad")
    return (
        "data=file", "data.path=null", "data.name=cohort", "data.prepare=null",
        f"data.processed={folder / 'cohort.h5ad'}", *FAST,
    )  # fmt: skip


@pytest.mark.parametrize("n_samples", [30, 80, 100])
def test_the_default_command_works(n_samples, command, tmp_path):
    data = cohort(tmp_path, n_samples, without_donor=2 if n_samples == 80 else 0)
    run = tmp_path / "run"
    done = command("gtex_vae.train", *data, f"hydra.run.dir={run}", cwd=tmp_path)
    assert done.code == 0, done.stderr
    n_train = (pd.read_csv(run / "splits.csv")["split"] == "train").sum()
    assert f"{n_train} training samples: " in done.stdout
    architecture = json.loads((run / "model" / "model.json").read_text())["architecture"]
    assert architecture["n_components"] == n_train - 1
    assert architecture["latent_dim"] == min(64, n_train // 2 if n_train <= 64 else 64)
    if n_samples == 80:
        splits = pd.read_csv(run / "splits.csv", index_col="sample")
        assert "2 samples have no donor" in done.stdout + done.stderr
        assert (splits["donor"] == splits.index).sum() == 2
        assert splits.index[splits["donor"] == splits.index][0] in done.stdout + done.stderr
    done = command("gtex_vae.evaluate", f"run={run}", cwd=tmp_path)
    assert done.code == 0, done.stderr


@pytest.mark.parametrize("stated", ["data.batch_size=64", "model.latent_dim=32"])
def test_a_stated_value_that_does_not_fit_is_refused_with_one_that_does(stated, command, tmp_path):
    data = cohort(tmp_path, 30)
    done = command("gtex_vae.train", *data, stated, f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.code == 1
    key = stated.partition("=")[0]
    advice = done.stderr.partition(": use ")[2].split()[0]
    assert advice.startswith(f"{key}=")
    done = command("gtex_vae.train", *data, advice, f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.code == 0, done.stderr


def test_a_killed_run_resumes_with_the_same_sizes(command, tmp_path):
    run, saved = (
        tmp_path / "run",
        "gtex_vae.training.callbacks.checkpoints:AtomicCheckpointIO.save_checkpoint",
    )
    overrides = (*cohort(tmp_path, 30), "model.latent_dim=4", "trainer.max_epochs=4", f"hydra.run.dir={run}")
    assert command("gtex_vae.train", *overrides, cwd=tmp_path, die=(saved, 3)).code != 0
    assert (run / "checkpoints" / "last.ckpt").exists()
    done = command("gtex_vae.train", f"run={run}", cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert "model.n_components=20 instead of 1024, data.batch_size=8 instead of 128" in done.stdout
    assert json.loads((run / "model" / "model.json").read_text())["architecture"]["latent_dim"] == 4


def test_a_search_draws_only_sizes_that_fit(command, tmp_path):
    pytest.importorskip("optuna", reason="the extra `search` is not installed")
    data = [override for override in cohort(tmp_path, 80) if "hidden_dims" not in override]
    done = command(
        "gtex_vae.train", *data, "hparams_search=default", "hydra.sweeper.n_trials=3", "model.hidden_dims=[16]",
        f"hydra.sweep.dir={tmp_path / 'search'}", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    table = pd.read_csv(tmp_path / "search" / "summary.csv")
    assert len(table) == 3
    for run in (tmp_path / "search").glob("[0-9]"):
        config = yaml.safe_load((run / "config.yaml").read_text())
        n_train = (pd.read_csv(run / "splits.csv")["split"] == "train").sum()
        assert config["data"]["batch_size"] <= n_train
        assert config["model"]["latent_dim"] < n_train
