"""Jobs submitted to SLURM and faults injected into them, all at the same time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from on_slurm import (
    FAULTS,
    SPARE,
    URGENT,
    OwnSlurm,
    Sweep,
    answers,
    log,
    on_node,
    queue,
    running,
    send,
    shown,
    until,
)

ROOT = Path(__file__).parents[2]
PAUSE = Path(__file__).parent / "pause"
CLUSTER = """# @package hydra.launcher
setup:
  - export PYTHONPATH={pause}:{source} OMP_NUM_THREADS=1
array_parallelism: 3
"""
SMALL_JOB = ("hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1", "hydra.launcher.timeout_min=10")
# without pictures, which take as long as the rest
TINY = (
    "data.prepare.n_samples=300", "data.prepare.n_genes=200", "data.batch_size=32", "model.hidden_dims=[32]",
    "model.latent_dim=8", "trainer.max_epochs=5", "trainer.accelerator=cpu", "trainer.precision=32-true",
    "callbacks.figures=null", "~logger",
)  # fmt: skip
CELLS = ("n_donors=40", "n_cell_types=4", "n_genes=200", "cells_per_donor=60")
TINY_ALIGNMENT = (
    "alignment.trainer.accelerator=cpu", "alignment.trainer.max_epochs=4", "alignment.batch_size=12",
    "alignment.model.head=[16,4]", *(f"alignment.cells.prepare.{size}" for size in CELLS),
)  # fmt: skip
SIX = "metrics_seed=0,1,2,3,4,5"  # not a setting of training: all six must end with the same weights
WAIT_S = 420  # of patience, on a busy machine


@pytest.fixture(scope="session")
def slurm() -> Iterator[OwnSlurm | None]:
    """A SLURM that answers, ours where there was none; afterwards nothing of the tests is left in its queue."""
    tools = Path(os.environ.get("GTEX_VAE_SLURM", ROOT.parent / "shared" / "tools"))
    own = None
    if not answers():
        if not (tools / "local_slurm.sh").exists() or os.getuid() != 0:
            pytest.skip(
                "no SLURM answers here, and none can be started: GTEX_VAE_SLURM=folder of local_slurm.sh, as root"
            )
        own = OwnSlurm(tools)
        if (trouble := own.start()) is not None:
            pytest.skip(f"local_slurm.sh: {trouble}")
    before = set(queue())
    try:
        yield own
        # what has just ended may still be completing
        until(lambda: set(queue()) <= before, 30, "nothing is left in the queue")
    finally:
        if left := set(queue()) - before:
            subprocess.run(["scancel", *left])
            until(lambda: set(queue()) <= before, 30, "what was cancelled ends")  # else it outlives its SLURM
        if own is not None:
            own.stop()


class Commands:
    """Runs ``python -m ...`` as a user does on a login node, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rest = folder, folder / "rest"
        self.rest.mkdir()
        cluster = folder / "my_conf" / "hydra" / "launcher" / "cluster"
        cluster.mkdir(parents=True)
        (cluster / "mine.yaml").write_text(CLUSTER.format(pause=PAUSE, source=ROOT / "src"))
        self._running: list[subprocess.Popen[str]] = []

    def let_go_on(self, run_dir: Path) -> None:
        """End the rest of a run's first process."""
        (self.rest / f"{run_dir.parent.name}_{run_dir.name}").touch()

    def start(self, module: str, *arguments: str, rest: bool = False) -> subprocess.Popen[str]:
        """Start a command whose jobs go to SLURM; with ``rest`` they rest at their checkpoints."""
        environ = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
        if rest:
            environ["REST_UNTIL"] = str(self.rest)
        where = ("hydra/launcher=slurm_cpu", "hydra/launcher/cluster=mine", *SMALL_JOB)
        multirun = () if module == "gtex_vae.pipeline" else ("-m",)
        process = subprocess.Popen(
            [sys.executable, "-m", module, "--config-dir", str(self.folder / "my_conf"), *multirun, *where, *arguments],
            cwd=self.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._running.append(process)
        return process

    def sweep(self, name: str, *overrides: str, module: str = "gtex_vae.train", rest: bool = False) -> Sweep:
        """Start a sweep in a folder of this name."""
        folder = self.folder / name
        where = (f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=${hydra.job.num}_run")
        tiny = TINY if module == "gtex_vae.train" else ()
        return Sweep(folder, self.start(module, *tiny, *overrides, *where, rest=rest))

    def chain(self, name: str, *overrides: str, rest: bool = False) -> Sweep:
        """Start a chain of stages with its outputs in a folder of this name."""
        outputs = self.folder / name
        where = (f"paths.outputs={outputs}", "name=mine")
        return Sweep(outputs, self.start("gtex_vae.pipeline", *overrides, *where, rest=rest))

    def stop(self) -> None:
        """End what still runs."""
        for process in self._running:
            if process.poll() is None:
                process.kill()


@pytest.fixture(scope="session")
def commands(slurm: OwnSlurm | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """A user's folder."""
    made = Commands(tmp_path_factory.mktemp("cluster"))
    yield made
    made.stop()


def inject(sweep: Sweep, number: int) -> None:
    """Do to a job of the sweep of six what its number stands for."""
    job, fault = f"{sweep.job}_{number}", FAULTS[number]
    if fault == "requeued":
        subprocess.run(["scontrol", "requeue", job], check=True)
    elif fault == "warned":
        send("USR2", job)
    elif fault == "terminated":
        send("TERM", job)
    else:  # the batch script before its Python: else it would queue the job again
        script, python = on_node(sweep.job, number)
        for pid in python if fault == "killed" else script + python:
            os.kill(pid, signal.SIGKILL)


def preempt(job: str) -> None:
    """Let a more urgent job take a job's node for a moment."""
    node = shown(job, "NodeList")
    wait_for = ["sbatch", f"--partition={URGENT}", f"--nodelist={node}", "--exclusive", "--output=/dev/null"]
    subprocess.run([*wait_for, "--wrap=true"], check=True, capture_output=True)
    until(lambda: shown(job, "Restarts") != "0", 60, f"{job} is preempted")


def never_reached(*run_dirs: Path) -> str:
    """Where the processes of these runs are."""
    said = (
        f"{path}:\n{path.read_text()[-6000:]}"
        for sweep in {run_dir.parent for run_dir in run_dirs}
        for path in sorted(sweep.glob(".submitit/*/*_log.*"))
    )
    return "\n".join((f"never reached: {[str(run_dir) for run_dir in run_dirs]}", *said))


@dataclass
class Everything:
    """What the tests look at."""

    faults: Sweep
    limit: Sweep
    ends: Sweep
    nodes: Sweep | None
    chain: Sweep
    broken: Sweep
    cells: Sweep
    encoded: Sweep
    aligned: Sweep
    again: Sweep

    @property
    def undisturbed(self) -> Path:
        """The run that nothing was done to."""
        return self.faults.run_dir(0)


@pytest.fixture(scope="session")
def everything(slurm: OwnSlurm | None, commands: Commands) -> Everything:
    """Sweeps and chains at once, every fault, and what comes after one has ended."""
    faults = commands.sweep("faults", SIX, rest=True)
    # on a busy machine a process needs a minute to come to its checkpoint
    limit = commands.sweep(
        "limit", "hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=30", rest=True
    )
    ends = commands.sweep("ends", "data.test=0.95,0.2,0.21", rest=True)
    chain = commands.chain("chain", "stages=[preprocess,train,evaluate]", *TINY, rest=True)
    broken = commands.chain("broken", "data=file", "data.path=nothing.csv")
    cells = commands.sweep("cells", *(f"data.prepare.{size}" for size in CELLS), module="gtex_vae.pseudobulk")
    nodes = (
        commands.sweep("nodes", "metrics_seed=0,1", f"hydra.launcher.partition={SPARE}", rest=True)
        if slurm
        else None
    )
    for sweep in (faults, limit, ends, chain, broken, cells, *([nodes] if nodes else [])):
        sweep.submitted()
    trained = chain.folder / "train" / "runs" / "mine"
    at_checkpoint = {
        **{faults.folder / f"{n}_run": lambda n=n: inject(faults, n) for n in range(1, 6)},
        ends.folder / "1_run": lambda: subprocess.run(["scancel", f"{ends.job}_1"], check=True),
        trained: lambda: send("USR2", chain.job.split()[1]),
    }
    if slurm and nodes:
        at_checkpoint[nodes.folder / "0_run"] = lambda: slurm.lose(shown(f"{nodes.job}_0", "NodeList"))
        at_checkpoint[nodes.folder / "1_run"] = lambda: preempt(f"{nodes.job}_1")
    # what a signal only asks to stop has to come to the end of its batch
    to_go_on = {faults.folder / f"{FAULTS.index(name)}_run": "SIGTERM" for name in ("requeued", "terminated")}
    to_go_on |= {faults.folder / "0_run": "fitting", ends.folder / "2_run": "fitting"}
    deadline = time.monotonic() + WAIT_S
    while at_checkpoint or to_go_on:
        assert time.monotonic() < deadline, never_reached(*at_checkpoint, *to_go_on)
        for run_dir, sign in list(to_go_on.items()):
            if (run_dir / "log.txt").exists() and sign in log(run_dir):
                commands.let_go_on(run_dir)
                del to_go_on[run_dir]
        for run_dir in list(at_checkpoint):
            if (run_dir / "checkpoints" / "last.ckpt").exists():
                at_checkpoint.pop(run_dir)()
        faults.most_at_once = max(faults.most_at_once, running(faults.job))
        time.sleep(0.3)
    ends.end(WAIT_S)
    again = commands.sweep("ends", "data.test=0.95,0.2,0.21")
    until(
        lambda: (trained / "SUCCESS").exists() or chain.process.poll() is not None, WAIT_S, "the chain trains"
    )
    encoded = commands.sweep(
        "encoded", f"run={trained}", "input=data/processed/demo.h5ad", module="gtex_vae.encode"
    )
    aligned = commands.sweep("aligned", "+experiment=contrastive", f"run={trained}", *TINY_ALIGNMENT)
    for sweep in (faults, limit, chain, broken, cells, again, encoded, aligned, *([nodes] if nodes else [])):
        sweep.end(WAIT_S)
    return Everything(faults, limit, ends, nodes, chain, broken, cells, encoded, aligned, again)
