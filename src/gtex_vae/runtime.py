"""Threads and memory allocator of this process."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc malloc.h


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
