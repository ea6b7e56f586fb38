"""A killed and resumed run ends bitwise like an uninterrupted one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch

SIGKILLED = -signal.SIGKILL
PLATEAU = (  # the number of active units stays what it is, so every validation after the first counts as no better
    "learning_rate=plateau", "learning_rate.patience=1", "learning_rate.monitor=val/active_units", "optimizer.lr=0.01",
    "callbacks.early_stopping.patience=4", "callbacks.early_stopping.monitor=val/active_units",
    "trainer.max_epochs=12", "callbacks.console.every_n_epochs=1",
)  # fmt: skip

# 80 training samples: 5 batches an epoch, 20 steps in all, warm-up until step 5
STEP = "gtex_vae.training.module:VAEModule.training_step"
VALIDATION_START = "gtex_vae.training.module:VAEModule.on_validation_epoch_start"
VALIDATION = "gtex_vae.training.module:VAEModule.validation_step"
VALIDATED = "gtex_vae.training.callbacks.console:EpochLines.on_validation_end"
SAVE = "gtex_vae.training.callbacks.checkpoints:AtomicCheckpointIO.save_checkpoint"
RENAME = "os:replace"
EPOCH_START = "lightning.pytorch:LightningModule.on_train_epoch_start"
MEASURE = "gtex_vae.training.finish:measure"
SAVE_MODEL = "gtex_vae.inference.trained_model:TrainedModel.save"
REPORT = "gtex_vae.training.finish:report"


def result(run_dir: Path) -> tuple[str, bytes, dict[str, float]]:
    """What must be the same: the last state of training, the chosen weights' bytes and every metric."""
    assert (run_dir / "SUCCESS").exists()
    last = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    state = {
        key: last[key] for key in ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers")
    }
    digest = hashlib.sha256(json.dumps(state, default=torch.Tensor.tolist).encode()).hexdigest()
    weights = (run_dir / "model" / "weights.safetensors").read_bytes()
    return digest, weights, json.loads((run_dir / "metrics.json").read_text())


@pytest.fixture(scope="module")
def uninterrupted(train, tmp_path_factory):
    """Results of uninterrupted runs, one for each set of overrides."""
    known = {}

    def of(*overrides: str):
        # how often the last state is saved must not matter
        key = tuple(o for o in overrides if not o.startswith("callbacks.last."))
        if key not in known:
            run_dir = tmp_path_factory.mktemp("whole")
            done = train(run_dir, *key)
            assert done.code == 0, done.stderr
            known[key] = result(run_dir)
        return known[key]

    return of


EVERY_3 = ("callbacks.last.every_n_train_steps=3",)
EVERY_5 = ("callbacks.last.every_n_train_steps=5",)  # falls on the ends of epochs
KILLS = {
    "before the first checkpoint": ((STEP, 3), EVERY_3),
    "right after a checkpoint": ((STEP, 4), EVERY_3),
    "between checkpoints": ((STEP, 9), EVERY_3),
    "while a checkpoint is written": ((RENAME, 9), EVERY_3),
    "before an epoch's last step": ((STEP, 10), EVERY_3),
    "before a validation": ((VALIDATION_START, 2), EVERY_3),
    "before a validation, saved just now": ((VALIDATION_START, 2), EVERY_5),
    "in a validation": ((VALIDATION, 5), EVERY_3),
    "after a validation": ((VALIDATED, 2), EVERY_3),
    "between epochs": ((EPOCH_START, 3), ()),
    "in an epoch, saved once an epoch": ((STEP, 13), ()),
    "at the last step": ((STEP, 20), EVERY_3),
    "in the last validation": ((VALIDATION, 7), ()),
    "after training": ((SAVE_MODEL, 1), ()),
    "while measuring": ((MEASURE, 1), ()),
    "before the report": ((REPORT, 1), ()),
}


@pytest.mark.parametrize("kill", KILLS)
def test_killed_and_started_again(kill, train, uninterrupted, tmp_path):
    die, overrides = KILLS[kill]
    assert train(tmp_path, *overrides, die=die).code == SIGKILLED
    assert not (tmp_path / "SUCCESS").exists()
    done = train(tmp_path, *overrides)
    assert done.code == 0, done.stderr
    assert result(tmp_path) == uninterrupted(*overrides)


@pytest.mark.parametrize(
    ("die", "every", "precision"),
    [
        ((VALIDATION_START, 5), 5, "32-true"),
        ((VALIDATED, 5), None, "32-true"),
        ((EPOCH_START, 6), None, "32-true"),
        ((STEP, 29), 3, "bf16-mixed"),
    ],
)  # fmt: skip
def test_plateau_and_patience_are_restored(die, every, precision, train, uninterrupted, tmp_path):
    """Counters of validations must be in the checkpoint that is written after them."""
    overrides = (
        *PLATEAU, f"trainer.precision={precision}", f"callbacks.last.every_n_train_steps={every or 'null'}",
    )  # fmt: skip
    assert train(tmp_path, *overrides, die=die).code == SIGKILLED
    done = train(tmp_path, *overrides)
    assert done.code == 0
    assert result(tmp_path) == uninterrupted(*overrides)
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 6  # validations 3 to 7 lie after the warm-up, the first of them is the best
    assert last["optimizer_states"][0]["param_groups"][0]["lr"] == 0.01 / 8


@pytest.mark.parametrize("die", [(MEASURE, 1), (SAVE_MODEL, 1)])
def test_a_stopped_run_stays_stopped(die, train, uninterrupted, tmp_path):
    overrides = ("callbacks.early_stopping.target_loss=1.45", "trainer.max_epochs=30", "callbacks.console.every_n_epochs=1")  # fmt: skip
    killed = train(tmp_path, *overrides, die=die)
    assert killed.code == SIGKILLED
    assert "epoch 29/30" not in killed.stdout
    again = train(tmp_path, *overrides)
    assert again.code == 0
    assert "val loss" not in again.stdout  # not one epoch more
    assert result(tmp_path) == uninterrupted(*overrides)


def test_killed_twice_and_gone_on_with_run(train, command, uninterrupted, tmp_path):
    """``run=<directory>`` resumes with the config in that directory."""
    assert train(tmp_path, *EVERY_3, "seed=5", die=(STEP, 8)).code == SIGKILLED
    assert command("gtex_vae.train", f"run={tmp_path}", die=(STEP, 7)).code == SIGKILLED
    refused = command("gtex_vae.train", f"run={tmp_path}", "model.latent_dim=4")
    assert refused.code == 1
    assert "leave out model.latent_dim=4" in refused.stderr
    assert command("gtex_vae.train", f"run={tmp_path}").code == 0
    assert result(tmp_path) == uninterrupted(*EVERY_3, "seed=5")
    assert result(tmp_path) != uninterrupted()  # seed 0


def test_nothing_of_a_killed_write_stays(train, tmp_path):
    assert train(tmp_path, *EVERY_3, die=(RENAME, 9)).code == SIGKILLED
    assert train(tmp_path, *EVERY_3).code == 0
    leftover = [path for path in tmp_path.rglob(".*") if re.match(r"\.[0-9a-f]{8}\.", path.name)]
    assert leftover == []


def test_killed_from_outside(train, uninterrupted, tmp_path):
    """At whatever point the signal happens to come."""
    last = tmp_path / "checkpoints" / "last.ckpt"

    def kill(pid: int) -> None:
        seen: set[int] = set()
        deadline = time.monotonic() + 60
        while len(seen) < 4 and time.monotonic() < deadline:
            if last.exists():
                seen.add(last.stat().st_mtime_ns)
        os.kill(pid, signal.SIGKILL)

    overrides = ("trainer.max_epochs=20", *EVERY_3)
    assert train(tmp_path, *overrides, meanwhile=kill).code == SIGKILLED
    assert train(tmp_path, *overrides).code == 0
    assert result(tmp_path) == uninterrupted(*overrides)
