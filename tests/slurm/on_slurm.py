"""A local SLURM with nodes that can be lost, and faults for its jobs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SPARE = "spare"  # partition of the nodes that may be lost
URGENT = "urgent"  # partition whose jobs take them from others
FAULTS = ("undisturbed", "requeued", "warned", "killed", "terminated", "script_killed")  # of the sweep of six


def until(happened: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)


def answers() -> bool:
    return (
        shutil.which("sinfo") is not None and subprocess.run(["sinfo"], capture_output=True).returncode == 0
    )


def free_ports() -> int:
    """The first of seven free ports in a row."""
    for first in range(16900, 18000, 10):
        with_sockets = [socket.socket() for _ in range(7)]
        try:
            for offset, one in enumerate(with_sockets):
                one.bind(("127.0.0.1", first + offset))
            return first
        except OSError:
            continue
        finally:
            for one in with_sockets:
                one.close()
    raise OSError("no seven free ports in a row")


class OwnSlurm:
    """A throw-away SLURM with the machine as its node, and three spare nodes of one CPU each."""

    def __init__(self, tools: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm_", dir="/tmp"))  # short: it holds sockets
        self.tools, self.port = tools, free_ports()
        self.host = socket.gethostname().partition(".")[0]
        os.environ |= {
            "LOCAL_SLURM_DIR": str(self.folder),
            "LOCAL_SLURM_PORT": str(self.port),
            "LOCAL_SLURM_CPUS": "8",
        }

    def start(self) -> str | None:
        """Start it; why it could not be, if so."""
        started = subprocess.run([self.tools / "local_slurm.sh"], capture_output=True, text=True, timeout=400)
        if started.returncode != 0:
            self.stop()
            return started.stderr[-500:]
        os.environ["SLURM_CONF"] = str(self.folder / "slurm.conf")
        self._add_nodes()
        return None

    def _add_nodes(self) -> None:
        """Make the partitions, and start everything that reads them anew."""
        for daemon in ("slurmd", "slurmctld"):
            pid = int((self.folder / "run" / f"{daemon}.pid").read_text())
            os.kill(pid, signal.SIGKILL)  # it has nothing to save yet
            until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), 30, f"{daemon} stops")
        config = self.folder / "slurm.conf"
        # on one machine each node has its files for itself
        own = re.sub(
            r"^(Slurmd(?:PidFile|SpoolDir|LogFile)=\S+?)(\.\w+)?$", r"\1_%n\2", config.read_text(), flags=re.M
        )
        config.write_text(
            f"{own}PreemptType=preempt/partition_prio\nPreemptMode=REQUEUE\n"
            f"NodeName=spare[1-3] NodeHostname={self.host} NodeAddr=127.0.0.1 Port={self.port + 4}-{self.port + 6} "
            "CPUs=1 RealMemory=4000 State=UNKNOWN\n"
            f"PartitionName={SPARE} Nodes=spare[1-3] PriorityTier=1\n"
            f"PartitionName={URGENT} Nodes=spare[1-3] PriorityTier=9 PreemptMode=OFF\n"
        )  # fmt: skip
        subprocess.run(["slurmctld", "-f", config], check=True)
        for node in (self.host, "spare1", "spare2", "spare3"):
            subprocess.run(["slurmd", "-f", config, "-N", node], check=True)

        def idle() -> bool:
            asked = subprocess.run(["sinfo", "-h", "-N", "-o", "%T"], capture_output=True, text=True)
            return asked.returncode == 0 and set(asked.stdout.split()) == {"idle"}

        until(idle, 60, "all nodes are idle")

    def stop(self) -> None:
        """End it, with all that it has started."""
        for file in self.folder.glob("run/slurmd_*.pid"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(file.read_text()), signal.SIGTERM)
        subprocess.run([self.tools / "local_slurm_stop.sh"], timeout=60)

    def lose(self, node: str) -> None:
        """Let a node die with all that runs there, and the controller know: it would notice after some minutes."""
        os.kill(int((self.folder / "run" / f"slurmd_{node}.pid").read_text()), signal.SIGKILL)
        for pid in processes(SLURMD_NODENAME=node):
            with contextlib.suppress(OSError):
                parent = re.search(r"^PPid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)
                if Path(f"/proc/{parent.group(1)}/comm").read_text().strip() == "slurmstepd":
                    os.kill(int(parent.group(1)), signal.SIGKILL)
                os.kill(pid, signal.SIGKILL)
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=lost"], check=True)


def queue(*states: str) -> list[str]:
    """Ids of this user's jobs."""
    asked = ["squeue", "--me", "--noheader", "--array", "--format=%i", *(f"--states={s}" for s in states)]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()


def running(job: str) -> int:
    """How many of an array's jobs run."""
    asked = ["squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i", f"--jobs={job}"]
    return len(subprocess.run(asked, capture_output=True, text=True).stdout.split())


def shown(job: str, key: str) -> str:
    """What scontrol says about a job: JobState, NodeList, Restarts."""
    asked = ["scontrol", "show", "job", "-o", job]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return re.search(rf"\b{key}=(\S+)", said).group(1)


def processes(**environ: str) -> list[int]:
    """Processes with all of this in their environment."""
    wanted, found = {f"{key}={value}" for key, value in environ.items()}, []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted <= set((folder / "environ").read_text(errors="replace").split("\0")):
                found.append(int(folder.name))
    return found


def on_node(job: str, number: int) -> tuple[list[int], list[int]]:
    """Pids of a job's batch script, and of its Python."""
    script, python = [], []
    for pid in processes(SLURM_ARRAY_JOB_ID=job, SLURM_ARRAY_TASK_ID=str(number)):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if any(word.endswith(b"slurm_script") for word in command):
                script.append(pid)
            elif (
                b"submitit.core._submit" in command
                and b"python" in Path(os.fsdecode(command[0])).name.encode()
            ):
                python.append(pid)
    assert script, f"no batch script of {job}_{number}"
    assert python, f"no Python of {job}_{number}"
    return script, python


def send(name: str, job: str, *how: str) -> None:
    """Send a signal once; scancel repeats it while a job is being requeued."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(["scancel", f"--signal={name}", *how, job], check=True, timeout=3)


@dataclass
class Sweep:
    """What was given on the command line, and its job's id."""

    folder: Path
    process: subprocess.Popen[str]
    output: str = ""
    code: int | None = None
    job: str = ""
    most_at_once: int = 0

    def run_dir(self, number: int) -> Path:
        (found,) = self.folder.glob(f"{number}_*")
        return found

    def submitted(self) -> Sweep:
        """Wait until the command says under which id."""
        for line in self.process.stdout:
            self.output += line
            if found := re.search(r"submitted \d+ job\(s\), ([\d ]+)", line):
                self.job = found.group(1)  # of a chain: all of them
                return self
        raise AssertionError(self.output)

    def end(self, wait_s: float) -> Sweep:
        """Wait for the command, and take what it said."""
        said, _ = self.process.communicate(timeout=wait_s)
        self.output, self.code = self.output + said, self.process.returncode
        return self


def log(run_dir: Path) -> str:
    return (run_dir / "log.txt").read_text()
