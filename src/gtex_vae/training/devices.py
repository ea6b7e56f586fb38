"""Training on several devices: number of processes, and division of the parameters among them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gtex_vae.errors import ConfigError

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy
    from torch import nn
    from torch.distributed.device_mesh import DeviceMesh

STRATEGIES = ("auto", "ddp", "fsdp")


def number(trainer: Mapping[str, Any]) -> int:
    """Return the number of processes on all nodes in a trainer's config; 1 if Lightning chooses."""
    devices = trainer["devices"]
    wanted = len(devices) if isinstance(devices, list) else int(devices) if str(devices).isdigit() else 1
    return wanted * int(trainer.get("num_nodes", 1))


def refuse_contrastive(settings: Mapping[str, Any]) -> None:
    """Refuse several devices for contrastive training.

    Raises
    ------
    ConfigError
        A contrastive term or an alignment has more than one device.
    """
    alignment = settings.get("alignment")
    if alignment is not None and number(alignment["trainer"]) > 1:
        raise ConfigError(f"alignment.trainer.devices={alignment['trainer']['devices']} must be 1")
    if number(settings["trainer"]) > 1 and (alignment is not None or settings.get("contrastive") is not None):
        raise ConfigError(
            f"trainer.devices={settings['trainer']['devices']}: contrastive training compares the samples of a batch, "
            "which several processes would divide; set trainer.devices=1 and increase data.batch_size"
        )


def refuse_in_sweep(trainer: Mapping[str, Any]) -> None:
    """Refuse several devices in a sweep's job of one task: the processes that Lightning starts would repeat the sweep.

    Raises
    ------
    ConfigError
        The job does not run under a scheduler that starts its processes.
    """
    devices = trainer["devices"]
    if number(trainer) > 1 and int(os.environ.get("SLURM_NTASKS", "1")) == 1:
        raise ConfigError(
            f"trainer.devices={devices} in a sweep needs jobs with as many tasks: add hydra/launcher=slurm_gpu "
            f"hydra.launcher.tasks_per_node={devices} hydra.launcher.gpus_per_node={devices}"
        )


def strategy(trainer: Mapping[str, Any]) -> str | Strategy:
    """Return Lightning's strategy for ``trainer.strategy``.

    ``fsdp`` is FSDP2: every process stores a shard of each parameter, gradient and optimizer state. Checkpoints are
    gathered into one file, as for other strategies.

    Raises
    ------
    ConfigError
        The value is not ``auto``, ``ddp`` or ``fsdp``.
    """
    name = trainer.get("strategy", "auto")
    if name not in STRATEGIES:
        raise ConfigError(f"trainer.strategy={name} must be one of {', '.join(STRATEGIES)}")
    if name != "fsdp":
        return str(name)
    from lightning.pytorch.strategies import ModelParallelStrategy

    return ModelParallelStrategy(
        data_parallel_size=number(trainer), tensor_parallel_size=1, save_distributed_checkpoint=False
    )


def shard(module: nn.Module, mesh: DeviceMesh) -> None:
    """Shard the parameters of every layer among the processes; a layer gathers them while it computes."""
    from torch.distributed.fsdp import fully_shard

    for layer in list(module.modules()):
        if next(layer.parameters(recurse=False), None) is not None:
            fully_shard(layer, mesh=mesh, reshard_after_forward=True)
