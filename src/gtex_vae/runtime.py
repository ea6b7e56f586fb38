"""Threads, memory allocator and signals of this process."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc malloc.h
TERMINATED = 128 + 15  # exit status of a shell after SIGTERM; Lightning exits with 0


def available_cpus() -> int:
    """Number of CPUs of this task: from SLURM, else ``OMP_NUM_THREADS``, else the process's affinity."""
    for variable in ("SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"):
        if os.environ.get(variable, "").isdigit():
            return max(1, int(os.environ[variable]))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tune_process() -> None:
    """Limit threads to the task's CPUs, keep freed memory in the process, and allow TF32.

    glibc returns buffers above 32 MiB to the kernel on every free. Each training step of a wide model would then page
    its gradients in again, which takes half of the time on a CPU.
    """
    import torch  # slow: mains import this module for other functions

    torch.set_num_threads(available_cpus())
    torch.set_float32_matmul_precision("high")
    _glibc("mallopt", M_MMAP_MAX, 0)
    _glibc("mallopt", M_TRIM_THRESHOLD, 2**31 - 1)


def give_back() -> None:
    """Return unused memory that `tune_process` kept to the kernel."""
    _glibc("malloc_trim", 0)


def _glibc(function: str, *numbers: int) -> None:
    """Call a function of glibc; do nothing with another C library."""
    with suppress(OSError, AttributeError):
        getattr(ctypes.CDLL("libc.so.6"), function)(*numbers)


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Raise SystemExit on SIGTERM, which would otherwise end the process silently; keep handlers that others have set.

    During a fit Lightning handles the signal: it stops after the batch.
    """

    def handle(*_: Any) -> None:
        if signal.getsignal(signal.SIGTERM) is handle:
            raise SystemExit(TERMINATED)

    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
