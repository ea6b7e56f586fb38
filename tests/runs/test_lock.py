"""The lock of a run directory: who has it, who is refused, and when it is taken over."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from gtex_vae.errors import RunError
from gtex_vae.runs.lock import LOCK, Owner, locked, owner

HOLD = """
import sys, time
from pathlib import Path
from gtex_vae.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def take_over(run_dir: Path) -> None:
    with locked(run_dir):
        assert owner(run_dir) is not None


def leave(run_dir: Path, **other: str | int) -> None:
    """Write the lock of another process."""
    (run_dir / LOCK).write_text(json.dumps(asdict(replace(Owner.this_process(), **other))))


def test_a_second_process_is_refused_with_who_and_where(tmp_path, holder):
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(RunError, match=rf"in use by process {holder.pid} on {os.uname().nodename} since"):
        take_over(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_it_is_free_after_the_process_has_ended(tmp_path, holder, how):
    holder.send_signal(how)
    if how == signal.SIGINT:
        holder.wait()
        assert not (tmp_path / LOCK).exists()
    else:
        holder.wait()
        assert (tmp_path / LOCK).exists()
    take_over(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_reused_pid_is_another_process(tmp_path):
    leave(tmp_path, pid=os.getppid(), started="1")
    take_over(tmp_path)


def test_another_host_without_a_job_keeps_its_lock(tmp_path):
    leave(tmp_path, host="elsewhere")
    with pytest.raises(RunError, match=r"on elsewhere since .*; if that process has ended, delete .*\.lock"):
        take_over(tmp_path)


def test_a_requeued_job_takes_its_own_lock(tmp_path, monkeypatch):
    leave(tmp_path, host="lost-node", job="7")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    take_over(tmp_path)


@pytest.mark.parametrize(("answer", "refused"), [("echo RUNNING", True), ("true", False), ("exit 1", True)])
def test_the_scheduler_knows_whether_a_job_of_another_host_has_ended(tmp_path, monkeypatch, answer, refused):
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(f"#!/bin/sh\n{answer}\n")
    squeue.chmod(squeue.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{squeue.parent}:{os.environ['PATH']}")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    leave(run_dir, host="elsewhere", job="8")
    if refused:
        with pytest.raises(RunError, match=r"of SLURM job 8 on elsewhere"):
            take_over(run_dir)
    else:
        take_over(run_dir)


def test_a_damaged_lock_is_taken_over(tmp_path):
    (tmp_path / LOCK).write_text("{")
    take_over(tmp_path)


def test_one_of_many_processes_gets_a_stale_lock(tmp_path):
    leave(tmp_path, pid=2**22 + 1)
    started = [
        subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
        for _ in range(4)
    ]  # fmt: skip
    lines: list[str] = []
    readers = [threading.Thread(target=lambda p=p: lines.append(p.stdout.readline())) for p in started]
    for reader in readers:
        reader.start()
    while len(lines) < 3:
        pass
    for process in started:
        process.kill()
        process.wait()
    for reader in readers:
        reader.join()
    for process in started:
        process.stdout.close()
    assert lines.count("locked\n") == 1
