"""Gradients are cleared before validation, and the first step returns freed memory once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from gtex_vae import runtime
from gtex_vae.data.datamodule import ExpressionDataModule
from gtex_vae.training.module import VAEModule


class Look(Callback):
    """Counts parameters with a gradient before and after each step of the optimizer, and in validation."""

    def __init__(self) -> None:
        self.seen: dict[str, set[int]] = {"before step": set(), "after step": set(), "validation": set()}

    def _look(self, when: str, module: Any) -> None:
        self.seen[when].add(sum(parameter.grad is not None for parameter in module.parameters()))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self._look("before step", pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self._look("after step", pl_module)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._look("validation", pl_module)


def test_between_steps_and_in_validation_there_are_none(
    data: ExpressionDataModule, tmp_path: Path, monkeypatch: Any
) -> None:
    handed_back = []
    monkeypatch.setattr(runtime, "give_back", lambda: handed_back.append(1))
    torch.manual_seed(0)
    module = VAEModule(
        {"_target_": "gtex_vae.models.vae.VAE", "latent_dim": 4, "hidden_dims": [8]},
        {"_target_": "gtex_vae.models.objective.Objective"},
        {"_target_": "torch.optim.AdamW", "lr": 1e-3},
        None,
        genes=data.genes, standardize=data.standardize, unit=data.unit,
    )  # fmt: skip
    look = Look()
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, enable_checkpointing=False, default_root_dir=tmp_path, callbacks=[look],
    )  # fmt: skip
    trainer.fit(module, data)
    trained = sum(parameter.requires_grad for parameter in module.parameters())
    assert look.seen == {"before step": {trained}, "after step": {0}, "validation": {0}}
    assert trainer.global_step > 2
    assert handed_back == [1]
