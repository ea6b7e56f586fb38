"""Gradient clipping."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule


def clip(
    module: LightningModule, optimizer: torch.optim.Optimizer, limit: float | None, algorithm: str | None
) -> None:
    """Clip the gradients of a module by norm or by value.

    Lightning refuses to clip for a fused optimizer under any mixed precision, although only fp16 rescales gradients
    inside the optimizer. On a CPU a norm within the limit leaves the gradients alone: multiplying all of them by 1
    takes 5 % of a wide model's step. On a GPU reading the norm would wait for the device, so they are always multiplied.

    Parameters
    ----------
    module
        With gradients.
    optimizer
        Of the module.
    limit
        Largest norm or value; None or 0: no clipping.
    algorithm
        ``value``, or ``norm`` (the default).
    """
    trainer = module.trainer
    if trainer.precision == "16-mixed" or not limit or algorithm == "value":
        module.clip_gradients(optimizer, limit, algorithm)
    elif module.device.type == "cpu" and trainer.world_size == 1:
        norm = torch.nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])
        if not norm <= limit:
            torch.nn.utils.clip_grads_with_norm_(module.parameters(), limit, norm)
    else:
        torch.nn.utils.clip_grad_norm_(module.parameters(), limit)
