"""Files that a stage leaves when it is stopped, repeated, or its code is edited."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from gtex_vae.errors import RunError
from gtex_vae.explain import explain
from gtex_vae.runs import directory, submission
from gtex_vae.stage import run_stage


@dataclass
class Settings:
    """Keys of a stage."""

    seed: int
    overwrite: bool = False


def start(run_dir: Path, body: Any, *, again: bool = False, **keys: Any) -> float | None:
    config = OmegaConf.create({"seed": 0, "overwrite": False, **keys})
    return run_stage(body, Settings, config, run_dir, [], again=again)


def result(config: Settings, run_dir: Path) -> float:
    return 0.1 + config.seed


@pytest.mark.parametrize(("code", "status"), [(None, 143), (0, 143), (-1, -1)])
def test_told_to_stop_it_is_unfinished_and_the_scheduler_sees_no_success(tmp_path, code, status):
    """Lightning answers SIGTERM with exit status 0, submitit leaves with -1 after it has queued the job again."""

    def stopped(config: Settings, run_dir: Path) -> None:
        raise SystemExit(code)

    with pytest.raises(SystemExit) as left:
        start(tmp_path, stopped)
    assert left.value.code == status
    assert directory.status(tmp_path) == "unfinished"


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_an_interruption_names_the_command_that_resumes(tmp_path, caplog, stop):
    def killed(config: Settings, run_dir: Path) -> None:
        os.kill(os.getpid(), stop)
        time.sleep(5)

    config = OmegaConf.create({"seed": 0, "overwrite": False})
    before = signal.getsignal(stop)
    with pytest.raises((SystemExit, KeyboardInterrupt)) as left:
        run_stage(killed, Settings, config, tmp_path, [], resume_with="python -m gtex_vae.train")
    text = caplog.text if stop == signal.SIGTERM else explain(left.value, "train")
    assert f"resume {tmp_path} with `python -m gtex_vae.train run={tmp_path}`" in text
    assert directory.status(tmp_path) in ("unfinished", "failed")
    assert signal.getsignal(stop) is before


def test_a_sweep_given_again_leaves_what_has_finished(tmp_path):
    def never(config: Settings, run_dir: Path) -> float:
        raise AssertionError("it has finished")

    first = start(tmp_path, result)
    assert start(tmp_path, never, again=True) == first == 0.1
    with pytest.raises(RunError, match=r"finished run"):  # other settings
        start(tmp_path, never, again=True, seed=1)
    with pytest.raises(RunError, match=r"finished run"):  # a single command
        start(tmp_path, never)
    assert start(tmp_path, result, again=True, overwrite=True, seed=1) == 1.1


def test_overwriting_loses_nothing_before_there_is_something_else(tmp_path, caplog):
    def broken(config: Settings, run_dir: Path) -> None:
        raise RunError("no such input")

    (tmp_path / "precious.csv").write_text("of seed 0")
    start(tmp_path, result)
    with pytest.raises(RunError, match=r"no such input"):
        start(tmp_path, broken, overwrite=True, seed=1)
    aside = tmp_path / directory.REPLACED
    assert str(aside) in caplog.text
    assert (aside / "precious.csv").read_text() == "of seed 0"
    assert start(tmp_path, result, overwrite=True, seed=2) == 2.1
    assert not aside.exists()


def test_a_stage_without_a_result(tmp_path):
    def nothing(config: Settings, run_dir: Path) -> None:
        return None

    assert start(tmp_path, nothing) is None
    assert start(tmp_path, nothing, again=True) is None


def test_a_job_that_refuses_edited_code(tmp_path, monkeypatch):
    record = tmp_path / "submitted.json"
    submission.write(record, {}, refuse=True)
    monkeypatch.setenv(submission.VARIABLE, str(record))
    assert start(tmp_path / "same", result) == 0.1
    files = submission._files()
    monkeypatch.setattr(submission, "_files", lambda: {**files, "gtex_vae/new.py": "0"})
    with pytest.raises(RunError, match=r"gtex_vae/new.py new"):
        start(tmp_path / "edited", result)
    assert "changed since submission" in (tmp_path / "edited" / "FAILED").read_text()


def test_a_job_that_slurm_refuses_is_explained():
    class FailedJobError(RuntimeError):
        """Like submitit's."""

    line = explain(FailedJobError("sbatch: error: x\nsbatch: error: invalid partition specified: y"), "train")
    assert "invalid partition specified: y; check hydra.launcher.partition" in line
