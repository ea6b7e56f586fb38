"""A search finishes, prunes, resumes after a kill, is shared by workers, and reports failures."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from gtex_vae.runs import directory

pytest.importorskip("optuna", reason="the extra `search` is not installed")

SAVE = "gtex_vae.training.callbacks.checkpoints:AtomicCheckpointIO.save_checkpoint"
# all but the learning rate and dropout are fixed, so that trials are alike in cost
SMALL = (
    "model.latent_dim=8",
    "optimizer.weight_decay=1.0",
    "trainer.max_epochs=3",
)


@pytest.fixture
def search(train):
    def run(folder: Path, *overrides: str, name: str = "default", **how):
        return train(None, f"hparams_search={name}", f"hydra.sweep.dir={folder}", *SMALL, *overrides, **how)

    return run


def states(folder: Path) -> list[str]:
    return [
        directory.status(folder / str(number)) for number in range(len(list(folder.glob("*/config.yaml"))))
    ]


def weights(folder: Path) -> list[bytes]:
    return [(run / "model" / "weights.safetensors").read_bytes() for run in sorted(folder.glob("[0-9]"))]


def journal(folder: Path):
    from gtex_vae.runs.study import open_study

    return open_study(folder / "study.journal").get_trials()


def test_the_hopeless_is_pruned_and_the_best_is_named(search, tmp_path):
    """Without the linear paths training starts from nothing, far behind."""
    done = search(tmp_path, "optimizer.lr=2e-3", "model.dropout=0.1", "model.mode_steps=0", "model.linear_skip=true,false",
                  "callbacks.search.startup_trials=1", "callbacks.search.startup_epochs=0", name="grid")  # fmt: skip
    assert done.code == 0, done.stderr
    assert states(tmp_path) == ["finished", "pruned"]
    assert "worse than the median" in (tmp_path / "1" / "PRUNED").read_text()
    assert not (tmp_path / "1" / "model").exists()
    best = yaml.safe_load((tmp_path / "best.yaml").read_text())
    assert (best["trial"], best["params"]) == (0, {"model.linear_skip": "True"})
    first, second = journal(tmp_path)
    # the value is the best of the validations after the warm-up, what best.ckpt was chosen by; never of the test donors
    assert best["value"] == first.value == min(first.intermediate_values.values())
    assert (first.state.name, second.state.name) == ("COMPLETE", "PRUNED")
    table = pd.read_csv(tmp_path / "summary.csv")
    assert list(table["status"]) == ["finished", "pruned"]


def test_killed_in_the_second_trial_it_goes_on_to_the_same_end(search, tmp_path):
    how = ("hydra.sweeper.n_trials=3",)
    assert search(tmp_path / "whole", *how).code == 0
    killed = search(tmp_path / "killed", *how, die=(SAVE, 9))
    assert killed.code == -signal.SIGKILL
    assert states(tmp_path / "killed") == ["finished", "unfinished"]
    done = search(tmp_path / "killed", *how)
    assert done.code == 0, done.stderr
    assert "resuming trial 1" in done.stdout
    assert "resuming the unfinished run" in done.stdout
    assert states(tmp_path / "killed") == ["finished"] * 3
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert [t.params for t in journal(tmp_path / "killed")] == [t.params for t in journal(tmp_path / "whole")]

    again = search(tmp_path / "killed", *how)  # nothing is left to do
    assert again.code == 0, again.stderr
    assert "best: trial" in again.stdout
    assert len(states(tmp_path / "killed")) == 3
    other = search(tmp_path / "killed", *how, "data.split_seed=1")
    assert other.code == 1
    assert "other settings" in other.stderr
    assert len(other.stderr.strip().splitlines()) == 1


def test_a_failed_trial_stops_no_other_and_is_told(search, tmp_path):
    done = search(
        tmp_path, "optimizer.lr=2e-3", "model.dropout=2.0,0.1", name="grid",
    )  # fmt: skip
    assert done.code == 1
    assert states(tmp_path) == ["failed", "finished"]
    assert "model.dropout=2.0" in done.stderr.strip().splitlines()[-1]
    assert [trial.state.name for trial in journal(tmp_path)] == ["FAIL", "COMPLETE"]


def test_what_is_refused_before_it_has_a_directory_is_a_failed_trial(search, tmp_path):
    done = search(tmp_path, "optimizer.lr=2e-3", "model.dropout=wet,0.1", name="grid")
    assert done.code == 1
    assert "model.dropout" in done.stderr.strip().splitlines()[-1]
    assert [trial.state.name for trial in journal(tmp_path)] == ["FAIL", "COMPLETE"]


def test_the_last_job_of_a_lost_worker_is_left_alone_while_it_works(search, tmp_path):
    from filelock import FileLock

    killed = search(tmp_path, "hydra.sweeper.n_trials=1", die=(SAVE, 3))
    assert killed.code == -signal.SIGKILL
    with FileLock(tmp_path / "0" / ".trial.lock"):  # like the job of a worker that has died
        done = search(tmp_path, "hydra.sweeper.n_trials=1")
        assert done.code == 0, done.stderr
        assert states(tmp_path) == ["unfinished"]
    assert search(tmp_path, "hydra.sweeper.n_trials=1").code == 0
    assert states(tmp_path) == ["finished"]


@pytest.mark.slow
def test_two_workers_share_a_study(search, tmp_path):
    assert search(tmp_path / "first", "hydra.sweeper.n_trials=1").code == 0  # the data is made
    folder, how = tmp_path / "search", "hydra.sweeper.n_trials=8"
    given = [line for line in yaml.safe_load((tmp_path / "first" / "0" / ".hydra" / "overrides.yaml").read_text())
             if not line.startswith(("callbacks.search.", "optimizer.lr", "model.dropout"))]  # fmt: skip
    line = [sys.executable, "-m", "gtex_vae.train", *given, f"hydra.sweep.dir={folder}", how]
    with (tmp_path / "log").open("w") as log:
        environ = {
            "PYTHONPATH": str(Path(directory.__file__).parents[2]),
            "OMP_NUM_THREADS": "1",
            "PATH": "/usr/bin:/bin",
        }
        other = subprocess.Popen(line, stdout=log, stderr=log, env=environ)
        try:
            for _ in range(600):
                if (folder / "study.journal").exists():
                    break
                time.sleep(0.1)
            done = search(folder, how)
        finally:
            code = other.wait(300)
    assert (done.code, code) == (0, 0), done.stderr + (tmp_path / "log").read_text()
    assert len(journal(folder)) == 8
    assert {trial.state.name for trial in journal(folder)} <= {"COMPLETE", "PRUNED"}
    logs = done.stdout, (tmp_path / "log").read_text()
    worked = [{line for line in text.splitlines() if "] trial " in line} for text in logs]
    assert worked[0]
    assert worked[1]
    assert len(worked[0]) + len(worked[1]) == 8  # each trial once
    assert len({json.dumps(trial.params) for trial in journal(folder)}) == 8


@pytest.mark.slow
def test_jobs_of_a_launcher_report_to_the_study(search, tmp_path):
    """What a search on a cluster does, with submitit's local jobs."""
    done = search(tmp_path, "hydra/launcher=local", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=3")
    assert done.code == 0, done.stderr + done.stdout
    assert set(states(tmp_path)) <= {"finished", "pruned"}
    assert len(states(tmp_path)) == 3
    assert "best: trial" in done.stdout


def test_contrastive(train, tmp_path):
    vae = tmp_path / "vae"
    assert train(vae, "trainer.max_epochs=1").code == 0
    tiny_cells = (
        "alignment.trainer.max_epochs=2", "alignment.trainer.check_val_every_n_epoch=1", "alignment.trainer.accelerator=cpu",
        "alignment.cells.prepare.n_donors=12", "alignment.cells.prepare.n_cell_types=3",
        "alignment.cells.prepare.cells_per_donor=40", "alignment.cells.prepare.n_genes=120",
    )  # fmt: skip
    done = train(None, "+experiment=contrastive", "hparams_search=contrastive", f"run={vae}", *tiny_cells,
                 "hydra.sweeper.n_trials=2", f"hydra.sweep.dir={tmp_path / 'search'}")  # fmt: skip
    assert done.code == 0, done.stderr
    assert states(tmp_path / "search") == ["finished"] * 2
    assert "best: trial" in done.stdout


def test_a_random_search_draws_new_points_when_it_goes_on(search, tmp_path):
    for n_trials in (1, 2):
        done = search(tmp_path, f"hydra.sweeper.n_trials={n_trials}", name="random")
        assert done.code == 0, done.stderr
    first, second = journal(tmp_path)
    assert set(first.params) == {"optimizer.lr", "model.dropout"}
    assert first.params["optimizer.lr"] != second.params["optimizer.lr"]


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("hydra.sweeper.sampler=best", "hydra.sweeper.sampler=best"),
        ("hydra.sweeper.n_jobs=0", "n_jobs=0"),
        ("hydra.sweeper.direction=up", "hydra.sweeper.direction=up"),
        ("callbacks.search.monitor=val/los", "val/loss"),
        ("callbacks.search.startup_epochs=-1", "startup_epochs=-1"),
        ("optimizer.lr=interval(1,0)", "interval(1,0)"),
    ],
)
def test_refused_in_one_line(override, part, search, tmp_path):
    done = search(tmp_path, "hydra.sweeper.n_trials=1", override)
    assert done.code == 1
    assert part in done.stderr.strip().splitlines()[-1]
    assert "unexpected" not in done.stderr
