"""Precision, warnings and cluster environment of the training process."""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING

import torch

from gtex_vae.errors import ConfigError

if TYPE_CHECKING:
    from lightning.pytorch.plugins.environments import ClusterEnvironment


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
