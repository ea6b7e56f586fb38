"""Sweeps on a real SLURM, and what happens to them there: each fault is injected once, all of them at the same time."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.xdist_group("slurm")]

TINY = (
    "data.prepare.n_samples=300", "data.prepare.n_genes=200", "data.batch_size=32", "model.hidden_dims=[32]",
    "model.latent_dim=8", "trainer.max_epochs=5", "trainer.accelerator=cpu", "trainer.precision=32-true",
)  # fmt: skip
SIX = "metrics_seed=0,1,2,3,4,5"  # not a setting of training: all six must end with the same weights
FAULTS = ("undisturbed", "requeued", "warned", "killed", "terminated", "lost")
WAIT_S = 420  # of patience, on a busy machine


@dataclass
class Sweep:
    """A sweep that was given on the command line, and its job's id."""

    folder: Path
    process: subprocess.Popen[str]
    output: str = ""
    code: int | None = None
    job: str = ""
    most_at_once: int = 0

    def run_dir(self, number: int) -> Path:
        (found,) = self.folder.glob(f"{number}_*")
        return found

    def end(self) -> None:
        """Wait for the command, and take what it said."""
        said, _ = self.process.communicate(timeout=WAIT_S)
        self.output, self.code = self.output + said, self.process.returncode


def start(commands, folder: Path, *overrides: str, rest: bool) -> Sweep:
    process = commands.slurm(
        "gtex_vae.train", *TINY, *overrides, f"hydra.sweep.dir={folder}",
        "hydra.sweep.subdir=${hydra.job.num}_run", rest=rest,
    )  # fmt: skip
    return Sweep(folder, process)


def submitted(sweep: Sweep) -> Sweep:
    """Wait until the command says under which id."""
    for line in sweep.process.stdout:
        sweep.output += line
        if found := re.search(r"submitted \d+ job\(s\), ([\d ]+)", line):
            sweep.job = found.group(1)  # of a chain: all of them
            return sweep
    pytest.fail(sweep.output)


def process_of(job: str, number: int) -> int:
    """The job's Python, on its node."""
    wanted = {f"SLURM_ARRAY_JOB_ID={job}", f"SLURM_ARRAY_TASK_ID={number}"}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            environ = set((folder / "environ").read_text(errors="replace").split("\0"))
        except OSError:
            continue
        if (
            wanted <= environ
            and b"submitit.core._submit" in command
            and b"python" in Path(os.fsdecode(command[0])).name.encode()
        ):
            return int(folder.name)
    raise AssertionError(f"no process of {job}_{number}")


def send(name: str, job: str, *how: str) -> None:
    """Send a signal once: while a job is being queued again scancel repeats it."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(["scancel", f"--signal={name}", *how, job], check=True, timeout=3)


def inject(sweep: Sweep, number: int) -> None:
    """Do to a job what its number stands for."""
    job, fault = f"{sweep.job}_{number}", FAULTS[number]
    if fault == "requeued":
        subprocess.run(["scontrol", "requeue", job], check=True)
    elif fault == "warned":
        send("USR2", job)
    elif fault == "killed":
        os.kill(process_of(sweep.job, number), signal.SIGKILL)
    elif fault == "terminated":
        send("TERM", job)
    elif fault == "lost":  # the batch script too: nobody is left to queue it again
        send("KILL", job, "--full")


def running(job: str) -> int:
    listed = subprocess.run(
        ["squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i", f"--jobs={job}"], capture_output=True, text=True
    )  # fmt: skip
    return len(listed.stdout.split())


@dataclass
class Everything:
    """What the tests below look at."""

    faults: Sweep
    limit: Sweep
    ends: Sweep
    chain: Sweep
    broken: Sweep
    again: Sweep


@pytest.fixture(scope="module")
def everything(commands) -> Everything:
    """Three sweeps and two chains at once, every fault, and the first sweep's command once more."""
    here = commands.folder
    faults = start(commands, here / "faults", SIX, rest=True)
    limit = start(
        commands, here / "limit", "hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=15", rest=True
    )  # fmt: skip
    ends = start(commands, here / "ends", "data.test=0.95,0.2,0.21", rest=True)
    outputs = here / "chain"
    chain = Sweep(
        outputs,
        commands.slurm("gtex_vae.pipeline", *TINY, f"paths.outputs={outputs}", "name=mine", rest=True),
    )
    broken = Sweep(here / "broken", commands.slurm(
        "gtex_vae.pipeline", "data=file", "data.path=nothing.csv", f"paths.outputs={here / 'broken'}", "name=mine"
    ))  # fmt: skip
    for sweep in (faults, limit, ends, chain, broken):
        submitted(sweep)
    waiting, to_cancel, to_warn = set(range(1, 6)), True, True
    # what a signal only asks to stop has to come to the end of its batch
    to_go_on = {faults.folder / f"{FAULTS.index(name)}_run": "SIGTERM" for name in ("requeued", "terminated")}
    to_go_on |= {faults.folder / "0_run": "fitting", ends.folder / "2_run": "fitting"}
    deadline = time.monotonic() + WAIT_S
    while waiting or to_cancel or to_warn or to_go_on:
        assert time.monotonic() < deadline, f"never reached: {waiting}, {to_go_on}"
        for run_dir, sign in list(to_go_on.items()):
            if (run_dir / "log.txt").exists() and sign in log(run_dir):
                commands.let_go_on(run_dir)
                del to_go_on[run_dir]
        if to_warn and (outputs / "train" / "runs" / "mine" / "checkpoints" / "last.ckpt").exists():
            send("USR2", chain.job.split()[1])
            to_warn = False
        faults.most_at_once = max(faults.most_at_once, running(faults.job))
        for number in sorted(waiting):
            if (faults.folder / f"{number}_run" / "checkpoints" / "last.ckpt").exists():
                inject(faults, number)
                waiting.discard(number)
        if to_cancel and (ends.folder / "1_run" / "checkpoints" / "last.ckpt").exists():
            subprocess.run(["scancel", f"{ends.job}_1"], check=True)
            to_cancel = False
        time.sleep(0.3)
    for sweep in (faults, ends, limit, chain, broken):
        sweep.end()
    again = start(commands, faults.folder, SIX, rest=False)
    submitted(again).end()
    return Everything(faults, limit, ends, chain, broken, again)


def weights(run_dir: Path) -> bytes:
    return (run_dir / "model" / "weights.safetensors").read_bytes()


def last_state(run_dir: Path) -> str:
    last = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    keys = ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers")
    return json.dumps({key: last[key] for key in keys}, default=torch.Tensor.tolist)


def log(run_dir: Path) -> str:
    return (run_dir / "log.txt").read_text()


def starts(run_dir: Path) -> int:
    """How often a process has gone on with this run."""
    return log(run_dir).count("going on with the unfinished run")


def test_a_sweep_of_six_ends_with_its_six_runs(everything):
    sweep = everything.again
    assert sweep.code == 0, sweep.output
    assert sorted(path.name for path in sweep.folder.glob("*_run")) == [f"{n}_run" for n in range(6)]
    table = pd.read_csv(sweep.folder / "summary.csv")
    assert list(table["status"]) == ["finished"] * 6
    assert list(table["metrics_seed"]) == list(range(6))
    assert table["reconstruction/r2"].notna().all()


@pytest.mark.parametrize("number", range(1, 6), ids=FAULTS[1:])
def test_a_disturbed_run_goes_on_and_ends_with_the_same_weights(everything, number):
    whole, disturbed = everything.faults.run_dir(0), everything.faults.run_dir(number)
    assert starts(whole) == 0
    assert starts(disturbed) >= 1, log(disturbed)
    assert weights(disturbed) == weights(whole)
    assert last_state(disturbed) == last_state(whole)


def test_only_the_lost_job_needed_the_command_again(everything):
    assert everything.faults.code != 0
    for number in range(6):
        said = re.search(rf"\] #{number}\b.*: (finished|ended as|failed)", everything.faults.output)
        assert said is not None, everything.faults.output
        assert (said.group(1) == "finished") == (FAULTS[number] != "lost")
    for number in range(5):  # what had finished was not run once more
        assert log(everything.faults.run_dir(number)).count("finished before") == 1


def test_over_its_time_limit(everything):
    sweep = everything.limit
    assert sweep.code == 0, sweep.output
    (run_dir,) = sweep.folder.glob("*_run")
    assert starts(run_dir) >= 1
    assert "timed-out" in "".join(path.read_text() for path in sweep.folder.glob(".submitit/*/*_log.err"))
    assert weights(run_dir) == weights(everything.faults.run_dir(0))


def test_a_failure_keeps_nobody_from_the_others(everything):
    sweep = everything.ends
    assert sweep.code != 0
    raised, _, finished = (sweep.run_dir(number) for number in range(3))
    assert "data.test=0.95" in (raised / "FAILED").read_text().splitlines()[0]
    assert "data.test=0.95" in sweep.output
    assert (finished / "SUCCESS").exists()
    assert slurm_state(f"{sweep.job}_0") == "FAILED"
    table = pd.read_csv(sweep.folder / "summary.csv", index_col="run")
    assert list(table["status"]) == ["failed", "unfinished", "finished"]


def slurm_state(job: str) -> str:
    shown = subprocess.run(
        ["scontrol", "show", "job", "-o", job], capture_output=True, text=True, check=True
    ).stdout
    return re.search(r"JobState=(\w+)", shown).group(1)


def test_a_cancelled_job_stays_cancelled(everything):
    sweep = everything.ends
    assert slurm_state(f"{sweep.job}_1") == "CANCELLED"
    assert "ended as CANCELLED" in sweep.output
    assert not (sweep.run_dir(1) / "SUCCESS").exists()
    assert not (sweep.run_dir(1) / "FAILED").exists()


def test_no_more_jobs_at_once_than_allowed(everything):
    assert 1 <= everything.faults.most_at_once <= 3


def test_sweeps_at_once_do_not_mix(everything):
    for sweep, jobs in ((everything.faults, 6), (everything.limit, 1), (everything.ends, 3)):
        assert len(list(sweep.folder.glob("*_run"))) == jobs
        names = {path.name.partition("_")[0] for path in (sweep.folder / ".submitit").glob("[0-9]*")}
        assert sweep.job in names
        others = {s.job for s in (everything.faults, everything.limit, everything.ends)} - {sweep.job}
        assert not names & others


def test_a_chain_outlives_a_job_that_was_queued_again(everything):
    chain = everything.chain
    assert chain.code == 0, chain.output
    for stage in ("preprocess", "train", "evaluate", "analyze"):
        assert (chain.folder / stage / "runs" / "mine" / "SUCCESS").exists()
    run_dir = chain.folder / "train" / "runs" / "mine"
    assert starts(run_dir) >= 1
    assert (run_dir / "analysis" / "report.html").exists()
    assert weights(run_dir) == weights(everything.faults.run_dir(0))


def test_no_stage_runs_after_one_that_failed(everything):
    chain = everything.broken
    assert chain.code == 1
    last = chain.output.strip().splitlines()[-1]
    assert last.startswith("error: preprocess failed: nothing.csv: no such file")
    assert "train, evaluate, analyze did not run" in last
    first, *later = chain.job.split()
    assert slurm_state(first) == "FAILED"
    assert [slurm_state(job) for job in later] == ["CANCELLED"] * 3
    assert sorted(path.name for path in chain.folder.iterdir()) == ["pipeline", "preprocess"]
