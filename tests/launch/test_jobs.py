"""Jobs are followed to their end and killed ones are requeued, with a fake scheduler."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import gtex_vae.launch.jobs as launch_jobs
from gtex_vae.launch.jobs import JobState, follow, in_queue, requeue, retry_lines

FAILED = """Job (task=0) failed during processing with trace:
----------------------
Traceback (most recent call last):
  File "x.py", line 1, in <module>
ValueError: an inner one

gtex_vae.errors.SplitError: data.test=0.95 must leave something: nothing is left

----------------------
You can check full logs with 'job.stderr(0)' and 'job.stdout(0)'or at paths:
"""


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of squeue and scontrol, which answer with what lies in files beside them and note what they are told."""
    for name in ("squeue", "scontrol"):
        path = tmp_path / name
        path.write_text(
            f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/told\ncat {tmp_path}/{name}.says 2>/dev/null || exit 1\n'
        )
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(launch_jobs, "POLL_S", 0.0)
    return tmp_path


class SlurmJob:
    """Fake job of submitit, which has ended when its result exists."""

    num_tasks = 1

    def __init__(self, folder: Path, job_id: str, error: str | None = None) -> None:
        self.job_id, self.error = job_id, error
        self.paths = SimpleNamespace(result_pickle=folder / f"{job_id}.pkl", folder=folder / job_id)

    def task(self, number: int) -> Any:
        return self

    def exception(self) -> Exception | None:
        return None if self.error is None else RuntimeError(self.error)

    def results(self) -> list[str]:
        return [f"result of {self.job_id}"]

    def end(self) -> SlurmJob:
        self.paths.result_pickle.touch()
        return self


def test_every_job_is_waited_for_and_told_apart(scheduler, caplog):
    caplog.set_level("INFO")
    (scheduler / "squeue.says").write_text("")
    (scheduler / "scontrol.says").write_text(
        "JobId=7 ArrayTaskId=2 JobState=CANCELLED Reason=None Dependency=(null)"
    )
    jobs = [
        SlurmJob(scheduler, "7_0", error=FAILED).end(),
        SlurmJob(scheduler, "7_1").end(),
        SlurmJob(scheduler, "7_2"),
    ]
    failed, finished, cancelled = follow(jobs, ["#0 data.test=0.95", "#1 data.test=0.2", "#2 data.test=0.3"])
    assert failed.error == "data.test=0.95 must leave something: nothing is left"
    assert (finished.result, finished.error) == ("result of 7_1", None)
    assert cancelled.error == "ended as CANCELLED, without a result"
    assert "[1/3] #0 data.test=0.95: failed: data.test=0.95 must leave something" in caplog.text
    assert "[2/3] #1 data.test=0.2: finished" in caplog.text
    assert "[3/3] #2 data.test=0.3: ended as CANCELLED" in caplog.text


def test_jobs_in_the_queue_are_not_given_up(scheduler):
    jobs = [SlurmJob(scheduler, "7_0"), SlurmJob(scheduler, "7_1")]
    (scheduler / "squeue.says").write_text("7_1\n")
    assert in_queue(jobs) == [False, True]
    (scheduler / "squeue.says").unlink()  # the scheduler does not answer
    assert in_queue(jobs) == [True, True]


def test_a_result_that_shows_late_on_a_shared_disk(scheduler, monkeypatch):
    """A job that has left the queue a moment ago may have finished."""
    job = SlurmJob(scheduler, "7")
    answers = iter([[False]])

    def in_queue(jobs: Any) -> list[bool]:
        answer = next(answers)
        job.end()
        return answer

    monkeypatch.setattr(launch_jobs, "in_queue", in_queue)
    (ended,) = follow([job], ["#0"])
    assert ended.error is None


def requeued(scheduler: Path) -> int:
    return (scheduler / "told").read_text().count("scontrol requeue 7_0")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("JobState=FAILED Reason=RaisedSignal:9(Killed) ExitCode=0:9", "FAILED by signal 9"),
        ("JobState=OUT_OF_MEMORY Reason=OutOfMemory ExitCode=0:125", "OUT_OF_MEMORY"),
        ("JobState=NODE_FAIL Reason=NodeDown ExitCode=0:0", "NODE_FAIL"),
    ],
)
def test_a_job_killed_with_its_batch_script_is_queued_again_so_many_times(scheduler, caplog, said, words):
    (scheduler / "squeue.says").write_text("")
    (scheduler / "scontrol.says").write_text(f"JobId=7 {said} RunTime=00:00:03")
    (scheduler / "killed_7_0").write_text("137\n")  # its batch script has done it once
    (ended,) = follow([SlurmJob(scheduler, "7_0")], ["#0"], retries=2)
    assert ended.error == f"ended as {words}, without a result"
    assert requeued(scheduler) == 1
    assert caplog.text.count("; requeued") == 1


@pytest.mark.parametrize(
    "said",
    [
        "JobState=CANCELLED Reason=None ExitCode=0:15",  # scancel
        "JobState=FAILED Reason=NonZeroExitCode ExitCode=127:0",  # no Python there
        "JobState=FAILED Reason=Dependency ExitCode=0:9",
        "",
    ],
)
def test_no_other_job_is_queued_again(scheduler, said):
    (scheduler / "squeue.says").write_text("")
    (scheduler / "scontrol.says").write_text(said)
    (ended,) = follow([SlurmJob(scheduler, "7_0")], ["#0"], retries=2)
    assert ended.error is not None
    assert requeued(scheduler) == 0


def test_where_the_scheduler_refuses_the_job_has_ended(scheduler, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    assert not requeue(SlurmJob(scheduler, "7_0"), JobState("killed", killed=True), 3)


def batch(scheduler: Path, command: str, **environ: str) -> tuple[int, str]:
    """Run a batch script with the retry lines; its status and what the scheduler was told."""
    lines = retry_lines(str(scheduler / "%j"), retries=2)
    (scheduler / "told").write_text("")
    done = subprocess.run(
        ["bash", "-c", "\n".join([*lines, command])],
        env={"PATH": os.environ["PATH"], "SLURM_JOB_ID": "7", **environ}, capture_output=True,
    )  # fmt: skip
    return done.returncode, (scheduler / "told").read_text()


KILLED = "sh -c 'kill -9 $$'"


def test_a_killed_process_is_queued_again_so_many_times(scheduler):
    (scheduler / "scontrol.says").write_text("JobState=RUNNING")
    for _ in range(2):
        code, told = batch(scheduler, KILLED)
        assert code == 137 or "scontrol requeue 7" in told
        assert told.splitlines()[-1] == "scontrol requeue 7"
    code, told = batch(scheduler, KILLED)
    assert code == 137
    assert "requeue" not in told


def test_of_an_array_only_the_killed_task_is_queued_again(scheduler):
    """The id of the last task is the array's own: to requeue it would start all tasks again."""
    (scheduler / "scontrol.says").write_text("JobState=RUNNING")
    _, told = batch(scheduler, KILLED, SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID="3")
    assert told.splitlines() == ["scontrol show job -o 7_3", "scontrol requeue 7_3"]


@pytest.mark.parametrize("command", ["true", "exit 1", "exit 255"])
def test_a_process_that_ended_by_itself_is_not_queued_again(scheduler, command):
    (scheduler / "scontrol.says").write_text("JobState=RUNNING")
    code, told = batch(scheduler, command)
    assert code == {"true": 0, "exit 1": 1, "exit 255": 255}[command]
    assert told == ""


@pytest.mark.parametrize("state", ["CANCELLED", "PENDING", "TIMEOUT", "PREEMPTED"])
def test_a_job_that_the_scheduler_ended_is_left_to_it(scheduler, state):
    (scheduler / "scontrol.says").write_text(f"JobState={state}")
    code, told = batch(scheduler, KILLED)
    assert code == 137
    assert "requeue" not in told
