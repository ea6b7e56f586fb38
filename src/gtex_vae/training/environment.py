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
    """Silence messages of Lightning that no user can act on."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.handlers.clear()  # the root logger prints messages once
    for message in (
        ".*LeafSpec.*",
        ".*`srun` command is available.*",  # a run of one process needs no scheduler
        ".*smaller than the logging interval.*",
        ".*does not have many workers.*",
        ".*module.s. in eval mode.*",  # of frozen encoders, on purpose
        ".*sync_dist=True.*",  # logged values are already reduced over the processes
        ".*your dataloader is not resumable.*",  # it has no state; it reads the progress from the trainer
    ):
        warnings.filterwarnings("ignore", message)


def best_precision(accelerator: str) -> str:
    """Return ``bf16-mixed`` for a CPU with bfloat16 matrix products, else ``32-true``.

    On a GPU memory limits a step, not matrix products (docs/benchmarks.md), so TF32 is as fast and more exact.
    """
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    # Private API: torch has no public query of these CPU features.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if native and not on_gpu else "32-true"


def cluster_environment(devices: int | str | list[int], num_nodes: int = 1) -> ClusterEnvironment:
    """Return Lightning's cluster environment, through which the processes of a run find each other.

    A run of one process ignores the scheduler. In a SLURM job of several tasks Lightning uses SLURM's processes but never
    requeues the job: submitit does.

    Raises
    ------
    ConfigError
        The SLURM job has fewer tasks than devices, so that devices would be idle; or more tasks than devices, so that
        each task would train the whole run in one directory.
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
    started = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))  # running tasks, not requested ones
    if started > 1 and wanted * num_nodes == 1:
        raise ConfigError(
            f"trainer.devices={devices}, but srun started {started} tasks: set hydra.launcher.tasks_per_node=1, or "
            f"trainer.devices={started}"
        )
    alone = tasks == 1 or wanted * num_nodes == 1
    return LightningEnvironment() if alone else SLURMEnvironment(auto_requeue=False)
