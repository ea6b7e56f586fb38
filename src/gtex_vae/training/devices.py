"""Training on several devices: which processes there are, and how parameters are divided among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gtex_vae.errors import ConfigError

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy
    from torch import nn
    from torch.distributed.device_mesh import DeviceMesh

STRATEGIES = ("auto", "ddp", "fsdp")


def number(trainer: Mapping[str, Any]) -> int:
    """Processes that a trainer's config asks for, on all nodes; 1 where it leaves that to Lightning."""
    devices = trainer["devices"]
    wanted = len(devices) if isinstance(devices, list) else int(devices) if str(devices).isdigit() else 1
    return wanted * int(trainer.get("num_nodes", 1))


def refuse_contrastive(settings: Mapping[str, Any]) -> None:
    """Refuse several devices for what compares the samples of a batch with each other.

    Raises
    ------
    ConfigError
        A contrastive term or an alignment, with more than one device.
    """
    alignment = settings.get("alignment")
    if alignment is not None and number(alignment["trainer"]) > 1:
        raise ConfigError(f"alignment.trainer.devices={alignment['trainer']['devices']} must be 1")
    if number(settings["trainer"]) > 1 and (alignment is not None or settings.get("contrastive") is not None):
        raise ConfigError(
            f"trainer.devices={settings['trainer']['devices']}: contrastive training compares the samples of a batch, "
            "which several processes would divide; set trainer.devices=1 and raise data.batch_size"
        )


def strategy(trainer: Mapping[str, Any]) -> str | Strategy:
    """Lightning's strategy for ``trainer.strategy``.

    ``fsdp`` is FSDP2: every process keeps its part of each parameter, gradient and optimizer state, and checkpoints
    are gathered into one file as of any other run.

    Raises
    ------
    ConfigError
        It is none of ``auto``, ``ddp``, ``fsdp``.
    """
    name = trainer.get("strategy", "auto")
    if name not in STRATEGIES:
        raise ConfigError(f"trainer.strategy={name} is none of {', '.join(STRATEGIES)}")
    if name != "fsdp":
        return str(name)
    from lightning.pytorch.strategies import ModelParallelStrategy

    return ModelParallelStrategy(
        data_parallel_size=number(trainer), tensor_parallel_size=1, save_distributed_checkpoint=False
    )


def shard(module: nn.Module, mesh: DeviceMesh) -> None:
    """Divide the parameters of every layer of a module among the processes; a layer has them whole while it works."""
    from torch.distributed.fsdp import fully_shard

    for layer in list(module.modules()):
        if next(layer.parameters(recurse=False), None) is not None:
            fully_shard(layer, mesh=mesh, reshard_after_forward=True)
