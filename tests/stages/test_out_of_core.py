"""Training with less memory than the matrix: exact resumption, evaluation, the same quality."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

TIGHT = "data.memory_gib=0.00006"  # nine tenths of the tiny matrix; two batches in a buffer
STEP = "gtex_vae.training.module:VAEModule.training_step"


def weights(run_dir: Path) -> bytes:
    return (run_dir / "model" / "weights.safetensors").read_bytes()


def test_killed_in_the_middle_of_a_buffer_it_goes_on_exactly(train, tmp_path):
    every = "callbacks.last.every_n_train_steps=3"
    assert train(tmp_path / "whole", TIGHT, every).code == 0
    assert train(tmp_path / "killed", TIGHT, every, die=(STEP, 9)).code == -signal.SIGKILL
    assert train(tmp_path / "killed", TIGHT, every).code == 0
    assert weights(tmp_path / "whole") == weights(tmp_path / "killed")
    first, second = ((tmp_path / name / "metrics.json").read_text() for name in ("whole", "killed"))
    assert first == second
    assert "stays on disk" in (tmp_path / "whole" / "log.txt").read_text()


def test_evaluation_and_report_are_of_the_samples_that_fit(train, command, tmp_path):
    assert train(tmp_path / "run", TIGHT).code == 0
    done = command("gtex_vae.evaluate", "run=run", cwd=tmp_path)
    assert done.code == 0, done.stderr
    trained, evaluated = (
        json.loads((tmp_path / "run" / name).read_text())
        for name in ("metrics.json", "evaluation/metrics.json")
    )
    for key in (
        "reconstruction/r2",
        "imputation/r2_20",
        "tissue/knn_accuracy",
        "baseline/pca/reconstruction/r2",
    ):
        assert evaluated[key] == pytest.approx(trained[key], rel=1e-5)


def test_a_bound_that_the_matrix_keeps_changes_nothing(train, tmp_path):
    for name, bound in (("without", "data.memory_gib=null"), ("with", "data.memory_gib=1")):
        assert train(tmp_path / name, bound).code == 0
    assert weights(tmp_path / "without") == weights(tmp_path / "with")


def test_too_little_for_two_batches_is_said_in_a_line(train, tmp_path):
    done = train(tmp_path, "data.memory_gib=0.00001")
    assert done.code == 1
    assert "data.memory_gib=1e-05 is too little to train from disk with data.batch_size=" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
