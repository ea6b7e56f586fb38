"""Continue a run with other settings, finish it early, and replace it."""

from __future__ import annotations

import json
import signal

import pytest
import torch
import yaml

STEP = "gtex_vae.training.module:VAEModule.training_step"


def last(run_dir):
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.parametrize("finished", [True, False])
def test_more_epochs_and_another_learning_rate(train, command, tmp_path, finished):
    how = {} if finished else {"die": (STEP, 8)}
    assert (train(tmp_path, "trainer.max_epochs=2", **how).code == 0) == finished
    before = last(tmp_path)
    done = command("gtex_vae.train", f"run={tmp_path}", "trainer.max_epochs=5", "optimizer.lr=0.0005")
    assert done.code == 0, done.stderr
    after = last(tmp_path)
    assert after["epoch"] == 4
    assert after["global_step"] == 25
    assert after["global_step"] > before["global_step"]
    assert after["lr_schedulers"][0]["base_lrs"][0] == 0.0005
    assert yaml.safe_load((tmp_path / "configs/1.yaml").read_text())["trainer"]["max_epochs"] == 2
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert (config["trainer"]["max_epochs"], config["optimizer"]["lr"]) == (5, 0.0005)
    assert (tmp_path / "SUCCESS").exists()
    assert not (tmp_path / ".replaced").exists()
    refused = command("gtex_vae.train", f"run={tmp_path}", "model.latent_dim=5")
    assert refused.code == 1
    assert "leave out model.latent_dim=5" in refused.stderr
    assert (tmp_path / "SUCCESS").exists()


def test_an_unfinished_run_is_finished_with_its_best_weights(train, command, tmp_path):
    assert (
        train(tmp_path, "trainer.max_epochs=20", "callbacks.kl_annealing.ratio=0.05", die=(STEP, 18)).code < 0
    )
    before = last(tmp_path)
    done = command("gtex_vae.train", f"run={tmp_path}", "finish=true")
    assert done.code == 0, done.stderr
    assert last(tmp_path)["global_step"] == before["global_step"]
    assert (tmp_path / "SUCCESS").exists()
    assert "reconstruction/r2" in json.loads((tmp_path / "metrics.json").read_text())
    again = command("gtex_vae.train", f"run={tmp_path}", "finish=true")
    assert again.code == 1
    assert "has finished already" in again.stderr


def test_overwrite_sets_an_unfinished_run_aside(train, tmp_path):
    assert train(tmp_path, die=(STEP, 8)).code == -signal.SIGKILL
    failed = train(tmp_path, "overwrite=true", "model.dropout=0.3", "data.batch_size=1")
    assert failed.code == 1
    assert (tmp_path / ".replaced" / "checkpoints" / "last.ckpt").exists()
    assert train(tmp_path, "overwrite=true", "model.dropout=0.3", "trainer.max_epochs=1").code == 0
    assert not (tmp_path / ".replaced").exists()
