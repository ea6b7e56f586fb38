"""Faults on a real SLURM, each once: jobs resume and end with the weights of an undisturbed run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from on_slurm import FAULTS, log, shown

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.xdist_group("slurm")]


def weights(run_dir: Path) -> bytes:
    return (run_dir / "model" / "weights.safetensors").read_bytes()


def last_state(run_dir: Path) -> str:
    last = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    keys = ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers")
    return json.dumps({key: last[key] for key in keys}, default=torch.Tensor.tolist)


def starts(run_dir: Path) -> int:
    """Count how often this run was resumed."""
    return log(run_dir).count("resuming the unfinished run")


def assert_as_if_undisturbed(run_dir: Path, whole: Path) -> None:
    assert starts(whole) == 0
    assert starts(run_dir) >= 1, log(run_dir)
    assert weights(run_dir) == weights(whole)
    assert last_state(run_dir) == last_state(whole)


def test_a_sweep_of_six_ends_with_its_six_runs(everything):
    sweep = everything.faults
    assert sweep.code == 0, sweep.output
    assert sorted(path.name for path in sweep.folder.glob("*_run")) == [f"{n}_run" for n in range(6)]
    table = pd.read_csv(sweep.folder / "summary.csv")
    assert list(table["status"]) == ["finished"] * 6
    assert list(table["metrics_seed"]) == list(range(6))
    assert table["reconstruction/r2"].notna().all()


@pytest.mark.parametrize("number", range(1, 6), ids=FAULTS[1:])
def test_a_disturbed_run_goes_on_and_ends_with_the_same_weights(everything, number):
    assert_as_if_undisturbed(everything.faults.run_dir(number), everything.undisturbed)
    assert int(shown(f"{everything.faults.job}_{number}", "Restarts")) >= 1


def test_only_a_killed_batch_script_was_queued_again_by_the_command(everything):
    said = everything.faults.output
    assert re.findall(r"#(\d)\b.*requeued", said) == ["5"], said
    assert re.search(r"#5\b.*: ended as FAILED by signal 9, without a result; requeued", said), said


@pytest.mark.parametrize(("number", "fault"), [(0, "lost"), (1, "preempted")])
def test_a_lost_node_and_a_more_urgent_job(everything, number, fault):
    sweep = everything.nodes
    if sweep is None:
        pytest.skip("nodes of a SLURM that others use are not to be lost")
    assert sweep.code == 0, sweep.output
    assert_as_if_undisturbed(sweep.run_dir(number), everything.undisturbed)
    said = "".join(path.read_text() for path in sweep.folder.glob(f".submitit/{sweep.job}_{number}/*_log.*"))
    assert ("DUE TO PREEMPTION" in said) == (fault == "preempted")


def test_over_its_time_limit(everything):
    sweep = everything.limit
    assert sweep.code == 0, sweep.output
    (run_dir,) = sweep.folder.glob("*_run")
    assert_as_if_undisturbed(run_dir, everything.undisturbed)
    assert "timed-out" in "".join(path.read_text() for path in sweep.folder.glob(".submitit/*/*_log.err"))


def test_a_failure_keeps_nobody_from_the_others(everything):
    sweep = everything.ends
    assert sweep.code != 0
    raised, _, finished = (sweep.run_dir(number) for number in range(3))
    assert "data.test=0.95" in (raised / "FAILED").read_text().splitlines()[0]
    assert "data.test=0.95" in sweep.output
    assert (finished / "SUCCESS").exists()
    assert shown(f"{sweep.job}_0", "JobState") == "FAILED"


def test_a_cancelled_job_stays_cancelled(everything):
    sweep = everything.ends
    assert shown(f"{sweep.job}_1", "JobState") == "CANCELLED"
    assert "ended as CANCELLED" in sweep.output
    assert shown(f"{sweep.job}_1", "Restarts") == "0"


def test_the_same_command_goes_on_with_what_was_cancelled_and_leaves_what_has_finished(everything):
    sweep = everything.again
    assert sweep.code != 0  # the one that raises raises again
    table = pd.read_csv(sweep.folder / "summary.csv", index_col="run")
    assert list(table["status"]) == ["failed", "finished", "finished"]
    assert starts(sweep.run_dir(1)) == 1
    assert starts(sweep.run_dir(2)) == 0
    assert log(sweep.run_dir(2)).count("already finished") == 1


def test_no_more_jobs_at_once_than_allowed(everything):
    assert 1 <= everything.faults.most_at_once <= 3
