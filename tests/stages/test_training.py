"""Seeds, precisions, stopping and other options of training, through the command."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch


def weights(run_dir: Path) -> bytes:
    return (run_dir / "model" / "weights.safetensors").read_bytes()


def epochs(stdout: str) -> list[int]:
    return [int(number) for number in re.findall(r"^epoch (\d+)/", stdout, flags=re.M)]


EVERY_EPOCH = "callbacks.console.every_n_epochs=1"


def test_the_same_seed_gives_the_same_weights_and_another_one_others(train, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert train(tmp_path / name, f"seed={seed}", "trainer.max_epochs=2").code == 0
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert weights(tmp_path / "a") != weights(tmp_path / "c")
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in "ab"]
    assert metrics[0] == metrics[1]
    splits = [(tmp_path / name / "splits.csv").read_text() for name in "abc"]
    assert len(set(splits)) == 1  # the split has a seed of its own


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_precision(precision, train, tmp_path):
    done = train(tmp_path, f"trainer.precision={precision}", "trainer.max_epochs=2")
    if done.code:  # what the hardware cannot do is said in a line
        assert precision == "16-mixed"
        assert len(done.stderr.strip().splitlines()) == 1
        assert "precision" in done.stderr
        assert "unexpected" not in done.stderr
        return
    assert json.loads((tmp_path / "metrics.json").read_text())["reconstruction/r2"] > 0.2
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert state["vae.encoders.0.mlp.0.weight"].dtype == torch.float32


def test_nothing_is_chosen_or_stopped_inside_the_warm_up(train, tmp_path):
    """The number of active units stays what it is: the first look would choose, the second would stop."""
    done = train(
        tmp_path, "trainer.max_epochs=12", "callbacks.kl_annealing.ratio=0.5", EVERY_EPOCH,
        "callbacks.early_stopping.monitor=val/active_units", "callbacks.early_stopping.patience=1",
        "callbacks.best.monitor=val/active_units",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert set(re.findall(r"active (\d+)", done.stdout)) == {"8"}
    assert max(epochs(done.stdout)) == 7
    assert torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["global_step"] == 6 * 5


def test_without_a_validation_after_the_warm_up_the_last_weights_are_the_model(train, tmp_path):
    done = train(tmp_path, "callbacks.kl_annealing.start=0.9", "callbacks.kl_annealing.ratio=1.0", "trainer.max_epochs=2",
                 "trainer.check_val_every_n_epoch=5")  # fmt: skip
    assert done.code == 0, done.stderr
    assert "no validation after the KL warm-up" in done.stdout
    assert not (tmp_path / "checkpoints" / "best.ckpt").exists()


def test_groups_may_be_left_out(train, tmp_path):
    done = train(tmp_path, "~logger", "~learning_rate", "trainer.max_epochs=1", "callbacks.figures=null")
    assert done.code == 0, done.stderr
    assert not (tmp_path / "tensorboard").exists()


def test_target_loss_stops(train, tmp_path):
    done = train(tmp_path, "callbacks.early_stopping.target_loss=5.0", "trainer.max_epochs=40", EVERY_EPOCH)
    assert done.code == 0, done.stderr
    assert max(epochs(done.stdout)) == 10  # the first validation after the warm-up, a quarter of 40


def test_every_epoch_is_validated_when_it_is_cut_short(train, tmp_path):
    done = train(tmp_path, "trainer.limit_train_batches=3", EVERY_EPOCH)
    assert done.code == 0, done.stderr
    assert epochs(done.stdout) == [1, 2, 3, 4]
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 12


def test_interrupted_with_ctrl_c_it_says_how_to_go_on(train, tmp_path):
    import os
    import time

    def interrupt(pid: int) -> None:
        deadline = time.monotonic() + 60
        while not (tmp_path / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(pid, signal.SIGINT)

    done = train(tmp_path, "trainer.max_epochs=200", meanwhile=interrupt)
    assert done.code != 0
    assert "Traceback" not in done.stdout + done.stderr
    resume = f"`python -m gtex_vae.train run={tmp_path}`"
    assert done.stderr.strip().splitlines()[-1] == f"error: interrupted; resume {tmp_path} with {resume}"
    assert "interrupted" in (tmp_path / "FAILED").read_text().splitlines()[0]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled(train, tmp_path):
    done = train(tmp_path, "compile=true", "trainer.max_epochs=1")
    assert done.code == 0, done.stderr
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert not [name for name in state if "_orig_mod" in name]


def test_a_checkpoint_holds_every_weight_once(train, tmp_path):
    assert train(tmp_path, "trainer.max_epochs=1").code == 0
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert {name.split(".")[0] for name in state} == {"vae", "scaler"}
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)


@pytest.mark.slow
def test_two_processes(train, tmp_path):
    done = train(
        tmp_path, "trainer.devices=2", "trainer.strategy=ddp", "trainer.max_epochs=2", "data.batch_size=8"
    )
    assert done.code == 0, done.stderr
    assert (tmp_path / "SUCCESS").exists()
    assert done.stdout.count("reconstruction R2") == 1  # measured once
    assert done.stderr == ""
