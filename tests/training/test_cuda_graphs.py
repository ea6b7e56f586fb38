"""Captured steps without a GPU: inputs, replays and gradients, and training with them.

A stand-in for a CUDA graph runs the captured step again and writes to the tensors of the first run.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from gtex_vae.data.loading.memory import Batch
from gtex_vae.training import cuda_graphs
from gtex_vae.training.callbacks.kl_annealing import KLAnnealing
from gtex_vae.training.callbacks.masking import Masking
from gtex_vae.training.cuda_graphs import CapturedStep
from gtex_vae.training.module import VAEModule


class Replayed(CapturedStep):
    """Captures nothing: keeps the tensors of the step's first run and overwrites them at every replay."""

    def _capture(self, inputs: Batch, kind: Any) -> cuda_graphs.Captured:
        random, buffers = torch.get_rng_state(), self.snapshot()
        figures_k = self._step(inputs, self._numbers_k, kind)
        gradients = [p.grad for p in self._parameters]
        torch.set_rng_state(random)  # capturing runs nothing
        self.restore(buffers)

        class Graph:
            def replay(graph) -> None:
                again_k = self._step(inputs, self._numbers_k, kind)
                figures_k.copy_(again_k)
                for p, gradient in zip(self._parameters, gradients, strict=True):
                    if gradient is not None:
                        gradient.copy_(p.grad)
                        p.grad = gradient

        return cuda_graphs.Captured(Graph(), gradients, figures_k)  # type: ignore[arg-type]

    def snapshot(self) -> list[torch.Tensor]:
        return [b.clone() for b in self._step.__self__.buffers()]  # type: ignore[attr-defined]

    def restore(self, kept: list[torch.Tensor]) -> None:
        for buffer, value in zip(self._step.__self__.buffers(), kept, strict=True):  # type: ignore[attr-defined]
            buffer.copy_(value)


@pytest.mark.parametrize("masked", [False, True])
def test_training_by_replays_is_training(data, tmp_path, masked):
    found = []
    for captures in (False, True):
        torch.manual_seed(0)
        module = VAEModule(
            {"_target_": "gtex_vae.models.vae.VAE", "latent_dim": 4, "hidden_dims": [8], "n_members": 3},
            {"_target_": "gtex_vae.models.objective.Objective"},
            {"_target_": "torch.optim.AdamW", "lr": 1e-2, "fused": True},
            None,
            genes=data.genes, standardize=data.standardize, unit=data.unit,
        )  # fmt: skip
        callbacks = [KLAnnealing(capacity=3.0)]
        if masked:
            callbacks.append(Masking(0.1, 0.3, whole=0.5))
        captured = Replayed(module._whole_step, list(module.parameters())) if captures else None
        plain_loss = module._loss
        if not captures:
            # Draw the partner first and pass numbers as tensors, as a captured step does; otherwise torch draws in another order.
            def as_captured(batch, beta, capacity, mask_ratio, kind, plain_loss=plain_loss, module=module):
                numbers = (torch.tensor(float(v)) for v in (beta, capacity, mask_ratio))
                return plain_loss(batch, *numbers, kind._replace(partner=module.vae.draw_partner()))

            module._loss = as_captured  # type: ignore[method-assign]
        module.on_train_start = partial(setattr, module, "_captured", captured)  # type: ignore[method-assign]
        fitted = Trainer(
            accelerator="cpu", max_epochs=3, logger=False, enable_progress_bar=False, enable_model_summary=False,
            limit_val_batches=0, enable_checkpointing=False, default_root_dir=tmp_path, callbacks=callbacks,
            gradient_clip_val=0.5,
        )  # fmt: skip
        fitted.fit(module, data)
        found.append(
            torch.cat(
                [p.detach().flatten() for p in (*module.parameters(), *(b.float() for b in module.buffers()))]
            )
        )
        assert module._captured is None
        assert captured is None or captured._captured  # some steps were replayed
    assert torch.equal(*found)


def test_kinds_are_recorded_apart_and_inputs_are_held():
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))

    class Owner:
        def buffers(self) -> list[torch.Tensor]:
            return []

        def step(self, batch: Batch, numbers_k: torch.Tensor, kind: str) -> torch.Tensor:
            weight.grad = None
            loss = (batch.x_nf @ weight).sum() * numbers_k[0] * (2.0 if kind == "double" else 1.0)
            loss.backward()
            return loss.detach()[None]

    step = Replayed(Owner().step, [weight])
    for turn, (kind, number) in enumerate(
        [("single", 1.0), ("single", 2.0), ("double", 2.0), ("double", 3.0), ("single", 4.0)]
    ):
        x_nf = torch.full((3, 2), float(turn))
        figures_k = step(Batch(x_nf, torch.arange(3)), (number,), kind)
        scale = number * (2.0 if kind == "double" else 1.0)
        assert float(figures_k[0]) == 9.0 * turn * scale
        assert weight.grad is not None
        assert weight.grad.tolist() == [3.0 * turn * scale] * 2
    assert set(step._captured) == {"single", "double"}
