"""Optimization of a LightningModule: optimizer, learning rate, clipping, gradients and captured steps."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from gtex_vae import runtime
from gtex_vae.config import build
from gtex_vae.data.loading.memory import Batch
from gtex_vae.models.vae import VAE
from gtex_vae.training.cuda_graphs import CapturedStep
from gtex_vae.training.gradients import clip
from gtex_vae.training.learning_rate import reset_rates
from gtex_vae.training.loss import StepKind
from gtex_vae.training.parameter_groups import parameter_groups


class OptimizedModule(LightningModule):
    """Base of `VAEModule` with the hooks through which Lightning optimizes.

    Parameters
    ----------
    optimizer, learning_rate
        See `VAEModule`.
    """

    vae: VAE

    def __init__(self, optimizer: dict[str, Any], learning_rate: dict[str, Any] | None) -> None:
        super().__init__()
        self.optimizer_config, self.learning_rate_config = optimizer, learning_rate
        self._captured: CapturedStep | None = None
        self._first_step = False
        self.continued = False  # with other settings than those of the checkpoint

    def _loss(
        self,
        batch: Batch,
        beta: float | Tensor,
        capacity: float | Tensor,
        mask_ratio: float | Tensor,
        kind: StepKind,
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of one batch and its figures (k,)."""
        raise NotImplementedError

    def configure_optimizers(self) -> Any:
        """Build the optimizer and its schedule."""
        groups = parameter_groups(self.vae, self.parameters(), self.optimizer_config["lr"])
        optimizer = build(self.optimizer_config, under="torch.optim", params=groups)
        self._group_settings = [
            {key: value for key, value in group.items() if key != "params"}
            for group in optimizer.param_groups
        ]
        if self.learning_rate_config is None:
            return optimizer
        total_steps = int(self.trainer.estimated_stepping_batches)
        return {
            "optimizer": optimizer,
            "lr_scheduler": build(
                self.learning_rate_config,
                under="gtex_vae.training.learning_rate",
                optimizer=optimizer,
                total_steps=total_steps,
            ),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note whether the run continues with another optimizer, learning rate or length than the checkpoint's."""
        before = checkpoint["hyper_parameters"]
        targets = [(before[key] or {}).get("_target_") for key in ("optimizer", "learning_rate")]
        optimizer, learning_rate = self.optimizer_config, self.learning_rate_config
        self.continued = (before["optimizer"], before["learning_rate"]) != (optimizer, learning_rate)
        self.continued |= checkpoint.get("epochs_planned", self.trainer.max_epochs) != self.trainer.max_epochs
        if targets[0] != optimizer["_target_"]:
            checkpoint["optimizer_states"] = []
        if targets[1] != (learning_rate or {}).get("_target_"):
            checkpoint["lr_schedulers"] = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record the planned length of the training, on which the schedules depend."""
        checkpoint["epochs_planned"] = self.trainer.max_epochs

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step the schedules that depend on the step alone; `step_on_metrics` steps the others after a validation.

        Lightning would step those after it has written the epoch's checkpoint, and a resumed run would lack one step.
        """
        if metric is None:
            super().lr_scheduler_step(scheduler, metric)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip, see `gtex_vae.training.gradients.clip`; captured steps clip by norm themselves."""
        if self._captured is None or gradient_clip_algorithm == "value":
            clip(self, optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_start(self) -> None:
        """Capture steps as CUDA graphs on a single GPU; apply the settings of a continued run.

        Compiled models, several processes and fp16, which rescales losses, run their steps normally.
        """
        self._first_step = True
        trainer = self.trainer
        if self.continued:
            schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
            reset_rates(trainer.optimizers[0], self._group_settings, schedulers, trainer.global_step)
        alone = self.device.type == "cuda" and trainer.world_size == trainer.accumulate_grad_batches == 1
        if alone and trainer.precision != "16-mixed" and not self.hparams["compile"]:
            trained = [p for p in self.parameters() if p.requires_grad]
            self._captured = CapturedStep(self._whole_step, trained)

    def on_train_end(self) -> None:
        """Release the captured steps and their memory."""
        self._captured = None

    def _whole_step(self, batch: Batch, numbers_k: Tensor, kind: StepKind) -> Tensor:
        """Compute and clip the gradients of a step; return its figures."""
        for parameter in self.parameters():
            parameter.grad = None
        beta, capacity, mask_ratio = numbers_k.unbind()
        loss, figures_k = self._loss(batch, beta, capacity, mask_ratio, kind)
        with torch.autocast("cuda", enabled=False):
            loss.backward()
        if self.trainer.gradient_clip_val and self.trainer.gradient_clip_algorithm != "value":
            torch.nn.utils.clip_grad_norm_(self.parameters(), self.trainer.gradient_clip_val)
        return figures_k

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Backpropagate, unless a captured step has done so."""
        if self._captured is None:
            super().backward(loss, *args, **kwargs)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Do nothing: `optimizer_step` clears gradients after each step, and captured steps manage their own."""

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer | LightningOptimizer, *closure: Any
    ) -> None:
        """Step and clear the gradients, before validation or the next forward pass needs memory.

        After the first step freed memory is returned to the kernel: glibc cannot reuse the chunks of the first gradients
        for the second ones, which are a few bytes longer, once Adam's moments are allocated behind them.
        """
        super().optimizer_step(epoch, batch_idx, optimizer, *closure)
        if self._captured is None:
            optimizer.zero_grad()
        if self._first_step:
            runtime.give_back()
            self._first_step = False
