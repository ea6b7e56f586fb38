"""The process that trains: threads, allocator, precision, and what SLURM says."""

from __future__ import annotations

import ctypes
import logging
import os
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

import torch

from gtex_vae.errors import ConfigError

if TYPE_CHECKING:
    from lightning.pytorch.plugins.environments import ClusterEnvironment

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


def quiet_libraries() -> None:
    """Leave out what Lightning says at every start and what no user can act on."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.handlers.clear()  # the root logger prints it once
    for message in (
        ".*LeafSpec.*",
        ".*`srun` command is available.*",  # a run of one process needs no scheduler
        ".*smaller than the logging interval.*",
        ".*does not have many workers.*",
        ".*module.s. in eval mode.*",  # a frozen encoder is meant to be
        ".*sync_dist=True.*",  # what is logged has been reduced over the processes
        ".*your dataloader is not resumable.*",  # it has no state: it asks the trainer where training stands
    ):
        warnings.filterwarnings("ignore", message)


def best_precision(accelerator: str) -> str:
    """``bf16-mixed`` on a CPU that has bfloat16 matrix products, else ``32-true``.

    A step on a GPU waits for memory, not for its products (docs/benchmarks.md), so TF32, which casts nothing, is as
    fast there and more exact.
    """
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if native and not on_gpu else "32-true"


def cluster_environment(devices: int | str | list[int], num_nodes: int = 1) -> ClusterEnvironment:
    """How the processes of this run find each other.

    A run of one process ignores the scheduler altogether. In a SLURM job of several tasks Lightning follows SLURM but
    never requeues: inside a submitit job that is submitit's business.

    Raises
    ------
    ConfigError
        More devices than the SLURM job has tasks: all but one would silently idle. Or more tasks than devices: each
        would train the whole run, in one directory.
    """
    from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment

    tasks = int(os.environ.get("SLURM_NTASKS", "1"))
    per_node = int(os.environ.get("SLURM_NTASKS_PER_NODE", tasks))
    wanted = len(devices) if isinstance(devices, list) else int(devices) if str(devices).isdigit() else 1
    if "SLURM_JOB_ID" in os.environ and wanted > 1 and per_node != wanted:
        raise ConfigError(
            f"trainer.devices={wanted}, but this SLURM job has {per_node} task(s) on a node: "
            f"set hydra.launcher.tasks_per_node={wanted} and hydra.launcher.gpus_per_node={wanted}"
        )
    started = int(
        os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    )  # tasks that are there, not those that were asked for
    if started > 1 and wanted * num_nodes == 1:
        raise ConfigError(
            f"trainer.devices={devices}, but srun started {started} tasks: set hydra.launcher.tasks_per_node=1, or "
            f"trainer.devices={started}"
        )
    alone = tasks == 1 or wanted * num_nodes == 1
    return LightningEnvironment() if alone else SLURMEnvironment(auto_requeue=False)
