"""Threads and memory allocator of this process."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc malloc.h


def available_cpus() -> int:
    """CPUs of this task: SLURM's word, else ``OMP_NUM_THREADS``, else what the process may run on."""
    for variable in ("SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"):
        if os.environ.get(variable, "").isdigit():
            return max(1, int(os.environ[variable]))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tune_process() -> None:
    """Use the task's own CPUs, keep big buffers, and allow TF32.

    glibc hands buffers above 32 MiB back to the kernel on every free, so that each training step of a wide model
    faults its gradients in again page by page: half of the time on a CPU. Kept buffers cost their peak once.
    """
    torch.set_num_threads(available_cpus())
    torch.set_float32_matmul_precision("high")
    _glibc("mallopt", M_MMAP_MAX, 0)
    _glibc("mallopt", M_TRIM_THRESHOLD, 2**31 - 1)


def give_back() -> None:
    """Hand the buffers that `tune_process` kept, and nothing uses any more, back to the kernel."""
    _glibc("malloc_trim", 0)


def _glibc(function: str, *numbers: int) -> None:
    """Call a function of the C library, unless it is another one, with an allocator of its own."""
    with suppress(OSError, AttributeError):
        getattr(ctypes.CDLL("libc.so.6"), function)(*numbers)
