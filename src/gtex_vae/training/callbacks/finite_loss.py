"""Callback that stops a run with a NaN or infinite loss and names the likely cause."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from gtex_vae.data.loading.memory import Batch
from gtex_vae.errors import NonFiniteLossError
from gtex_vae.training.module import VAEModule


class FiniteLoss(Callback):
    """Stop at the first loss that is not finite, before a checkpoint contains damaged weights.

    On a CPU every step is checked. On a GPU reading the loss would wait for the device, so the first bad step is recorded
    on the device and read every ``every_n_steps`` and before each validation.

    Parameters
    ----------
    every_n_steps
        Steps between two checks on a GPU.

    Raises
    ------
    NonFiniteLossError
        With step, epoch, samples and the likely cause.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        self.every_n_steps = every_n_steps
        self._first_bad: Tensor | None = None

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: VAEModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Record a bad loss, and check for one every ``every_n_steps``."""
        loss = outputs["loss"]
        step = torch.full((), trainer.global_step, device=loss.device)
        if self._first_bad is None:
            self._first_bad = torch.full((), -1, device=loss.device)
        bad_now = ~torch.isfinite(loss) & (self._first_bad < 0)
        self._first_bad = torch.where(bad_now, step, self._first_bad)
        if loss.device.type == "cpu" or trainer.global_step % self.every_n_steps == 0:
            self._check(trainer, pl_module, batch)

    def on_validation_start(self, trainer: Trainer, pl_module: VAEModule) -> None:  # type: ignore[override]
        """Check before anything is saved."""
        self._check(trainer, pl_module, None)

    def _check(self, trainer: Trainer, module: VAEModule, batch: Batch | None) -> None:
        step = -1 if self._first_bad is None else int(self._first_bad)
        if step < 0:
            return
        where = f"step {step} (epoch {trainer.current_epoch})"
        if batch is not None:
            where += f", batch of rows {batch.row_n[:3].tolist()}..."
        raise NonFiniteLossError(f"loss is not finite at {where}: {likely_cause(module, batch)}")


def likely_cause(module: VAEModule, batch: Batch | None) -> str:
    """Return the most probable cause of a NaN or infinite loss, in one line."""
    if batch is not None:
        bad_rows = ~torch.isfinite(batch.x_nf).all(1)
        if bad_rows.any():
            row = int(batch.row_n[bad_rows][0])
            return f"the expression of sample row {row} contains NaN or infinity; preprocess the matrix again"
        largest = float(batch.x_nf.abs().max())
        if largest > 1e4:
            return f"standardized values up to {largest:.3g} in this batch; try data.clip=10 or data.standardize=robust"
    precision = str(module.trainer.precision)
    if precision.startswith("16"):
        return "fp16 overflowed; use trainer.precision=bf16-mixed or 32-true"
    learning_rate = module.trainer.optimizers[0].param_groups[0]["lr"]
    bad = [name for name, p in module.named_parameters() if not torch.isfinite(p).all()]
    what = f"the weights of {bad[0]} are not finite" if bad else "the weights are still finite"
    return f"{what}; the learning rate is {learning_rate:.2g}: lower optimizer.lr or set trainer.gradient_clip_val=1"
