"""A SLURM for the tests: the one that is there, or a throw-away one of this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAUSE = Path(__file__).parent / "pause"
CLUSTER = """# @package hydra.launcher
setup:
  - export PYTHONPATH={pause}:{source} OMP_NUM_THREADS=1
array_parallelism: 3
"""
SMALL_JOB = ("hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1", "hydra.launcher.timeout_min=10")


def _answers() -> bool:
    return (
        shutil.which("sinfo") is not None and subprocess.run(["sinfo"], capture_output=True).returncode == 0
    )


def _free_ports() -> int:
    """The first of four free ports in a row."""
    for first in range(16900, 18000, 10):
        with_sockets = [socket.socket() for _ in range(4)]
        try:
            for offset, one in enumerate(with_sockets):
                one.bind(("127.0.0.1", first + offset))
            return first
        except OSError:
            continue
        finally:
            for one in with_sockets:
                one.close()
    raise OSError("no four free ports in a row")


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    """A SLURM that answers; afterwards its queue must be empty of what the tests submitted."""
    tools = Path(os.environ.get("GTEX_VAE_SLURM", ROOT.parent / "shared" / "tools"))
    stop = None
    if not _answers():
        if not (tools / "local_slurm.sh").exists() or os.getuid() != 0:
            pytest.skip(
                "no SLURM answers here, and none can be started: GTEX_VAE_SLURM=folder of local_slurm.sh, as root"
            )
        folder = tempfile.mkdtemp(prefix="slurm_", dir="/tmp")  # short: it holds sockets
        where = {"LOCAL_SLURM_DIR": folder, "LOCAL_SLURM_PORT": str(_free_ports()), "LOCAL_SLURM_CPUS": "8"}
        os.environ |= where
        stop = tools / "local_slurm_stop.sh"
        started = subprocess.run([tools / "local_slurm.sh"], capture_output=True, text=True, timeout=400)
        if started.returncode != 0:
            subprocess.run([stop], timeout=60)
            pytest.skip(f"local_slurm.sh: {started.stderr[-500:]}")
        os.environ["SLURM_CONF"] = f"{folder}/slurm.conf"
    before = set(queue())
    try:
        yield
        deadline = time.monotonic() + 30  # what has just ended may still be completing
        while (left := set(queue()) - before) and time.monotonic() < deadline:
            time.sleep(1)
        assert left == set(), "jobs were left in the queue"
    finally:
        for job in set(queue()) - before:
            subprocess.run(["scancel", job])
        if stop is not None:
            subprocess.run([stop], timeout=60)


def queue(*states: str) -> list[str]:
    """Ids of this user's jobs."""
    asked = ["squeue", "--me", "--noheader", "--array", "--format=%i", *(f"--states={s}" for s in states)]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()


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
        """Start a command, with its output in a pipe; with ``rest`` its jobs rest at their checkpoints."""
        environ = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
        if rest:
            environ["REST_UNTIL"] = str(self.rest)
        process = subprocess.Popen(
            [sys.executable, "-m", module, "--config-dir", str(self.folder / "my_conf"), *arguments],
            cwd=self.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._running.append(process)
        return process

    def slurm(self, module: str, *arguments: str, rest: bool = False) -> subprocess.Popen[str]:
        """Start a command whose jobs go to SLURM."""
        where = ("hydra/launcher=slurm_cpu", "hydra/launcher/cluster=mine", *SMALL_JOB)
        multirun = () if module == "gtex_vae.pipeline" else ("-m",)
        return self.start(module, *multirun, *where, *arguments, rest=rest)

    def stop(self) -> None:
        """End what still runs."""
        for process in self._running:
            if process.poll() is None:
                process.kill()


@pytest.fixture(scope="session")
def commands(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """A user's folder."""
    made = Commands(tmp_path_factory.mktemp("cluster"))
    yield made
    made.stop()
