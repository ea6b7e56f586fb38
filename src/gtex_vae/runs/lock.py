"""Lock of a run directory: one process at a time writes to it.

The lock is a file that is created atomically, also on network file systems, and names its owner.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from gtex_vae.errors import RunError

LOCK = ".lock"


@dataclass(frozen=True)
class Owner:
    """Process that has a lock.

    Parameters
    ----------
    host, pid
        Machine and process id.
    started
        Start time of the process in clock ticks since boot, which identifies a reused pid; empty if unknown.
    job
        SLURM job id, or empty.
    since
        Time at which it acquired the lock.
    """

    host: str
    pid: int
    started: str
    job: str
    since: str

    @classmethod
    def this_process(cls) -> Owner:
        """Describe the present process."""
        job = os.environ.get("SLURM_JOB_ID", "")
        since = datetime.now().isoformat(sep=" ", timespec="seconds")
        return cls(socket.gethostname(), os.getpid(), _started(os.getpid()), job, since)

    def is_dead(self) -> bool:
        """Return True if the process has certainly ended.

        A process of this host is looked up. On another host, SLURM is asked for its job; a job with the id of the
        present one is an earlier start of it, before it was requeued.
        """
        if self.host == socket.gethostname():
            return not _runs(self.pid) or _started(self.pid) != self.started
        if not self.job:
            return False
        return self.job == os.environ.get("SLURM_JOB_ID") or not _in_queue(self.job)

    def __str__(self) -> str:
        job = f" of SLURM job {self.job}" if self.job else ""
        return f"process {self.pid}{job} on {self.host} since {self.since}"


def owner(run_dir: Path) -> Owner | None:
    """Read the owner of a run directory; ``None`` if it is free or its owner has ended."""
    found = _read(run_dir / LOCK)
    return None if found is None or found.is_dead() else found


def refuse_locked(run_dir: Path) -> None:
    """Raise if another process uses a run directory.

    Raises
    ------
    RunError
        It does; the message names the process.
    """
    found, own = owner(run_dir), Owner.this_process()
    if found is not None and (found.host, found.pid) != (own.host, own.pid):
        raise RunError(
            f"{run_dir} is in use by {found}: wait for it, or set another hydra.run.dir; "
            f"if that process has ended, delete {run_dir / LOCK}"
        )


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Lock a run directory; take over the lock of a process that has ended.

    Raises
    ------
    RunError
        Another process has the lock.
    """
    path, own = run_dir / LOCK, Owner.this_process()
    run_dir.mkdir(parents=True, exist_ok=True)
    while True:
        refuse_locked(run_dir)
        _remove_stale(path)
        if _create(path, json.dumps(asdict(own))):
            break  # else another process was faster: look again
    try:
        yield
    finally:
        if _read(path) == own:
            path.unlink(missing_ok=True)


def _create(path: Path, text: str) -> bool:
    """Create a file with its content at once; return False if it exists."""
    new = path.with_name(f".lock.{uuid.uuid4().hex}")
    new.write_text(text, encoding="utf-8")
    try:
        os.link(new, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            return False
    finally:
        new.unlink()
    return True


def _remove_stale(path: Path) -> None:
    """Remove the lock of an ended process, but not one that another process has acquired meanwhile."""
    stale = path.with_name(f".lock.{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):
        path.rename(stale)
        found = _read(stale)
        if found is not None and not found.is_dead() and found.pid != os.getpid():
            with suppress(FileExistsError):
                os.link(stale, path)
        stale.unlink()


def _read(path: Path) -> Owner | None:
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _stat(pid).startswith("Z")


def _started(pid: int) -> str:
    fields = _stat(pid).split()
    return fields[19] if len(fields) > 19 else ""


def _stat(pid: int) -> str:
    """Fields of ``/proc/PID/stat`` from the state on; empty on systems without it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].strip()
    except OSError:
        return ""


def _in_queue(job: str) -> bool:
    """Return False if SLURM does not list the job any more; True if it does or does not answer."""
    try:
        asked = subprocess.run(
            ["squeue", "--noheader", "--format=%T", f"--jobs={job}"],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return True
    if asked.returncode:
        return "Invalid job id" not in asked.stderr
    return bool(asked.stdout.strip())
