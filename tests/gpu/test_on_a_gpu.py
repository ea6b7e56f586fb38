"""Tests on a GPU: steps never wait for it, metrics equal those of a CPU, repetitions give the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from gtex_vae.data.datamodule import ExpressionDataModule
from gtex_vae.data.loading.memory import Batch
from gtex_vae.data.simulate.bulk import simulate_gtex
from gtex_vae.training.callbacks.kl_annealing import KLAnnealing
from gtex_vae.training.callbacks.masking import Masking
from gtex_vae.training.cuda_graphs import CapturedStep
from gtex_vae.training.environment import best_precision
from gtex_vae.training.module import VAEModule

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

RECORDED = 32  # steps after which every kind has been captured
VIEWS = {"_target_": "gtex_vae.models.contrastive.ViewContrast"}
TISSUES = {"_target_": "gtex_vae.models.contrastive.LabelContrast"}
DEFAULT = {"n_components": 20, "n_members": 3}
PUBLISHED = {"likelihood": "mse", "linear_skip": False, "dropout": 0.3, "decoder_dropout": 0.3}
# settings of the module and of the data, and whether inputs are masked
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "default": (DEFAULT, {}, False),
    "on genes, masked": ({}, {}, True),
    "published": (PUBLISHED, {}, True),
    "conditional": (DEFAULT, {"covariates": ["sex", "tissue_group"]}, False),
    "views": ({"contrastive": VIEWS}, {}, True),
    "tissues": ({"contrastive": TISSUES, **DEFAULT}, {}, False),
}


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpu") / "x.h5ad"
    simulate_gtex(n_samples=400, n_genes=120, n_donors=40, seed=0).write_h5ad(path)
    return path


def made(processed: Path, name: str) -> tuple[VAEModule, ExpressionDataModule, list[Callback]]:
    model, settings, masked = MODELS[name]
    data = ExpressionDataModule("x", str(processed), batch_size=16, **settings)
    data.setup()
    model = dict(model)
    contrastive = model.pop("contrastive", None)
    torch.manual_seed(0)
    module = VAEModule(
        {"_target_": "gtex_vae.models.vae.VAE", "latent_dim": 4, "hidden_dims": [32], **model},
        {"_target_": "gtex_vae.models.objective.Objective"},
        {"_target_": "torch.optim.AdamW", "lr": 1e-3, "fused": True},
        None,
        genes=data.genes, standardize=data.standardize, unit=data.unit, contrastive=contrastive,
        covariates=None if data.conditions is None else data.conditions.columns,
    )  # fmt: skip
    if module.contrastive is not None:
        module.contrastive.look_up(data.adata.obs)
    if module.vae.basis_fg is not None and contrastive is not VIEWS:
        data.rotate(module.vae.basis_fg)
    return module, data, [KLAnnealing(), *([Masking(0.1, 0.3, whole=0.0)] if masked else [])]


def trainer(folder: Path, callbacks: list[Callback], **settings: Any) -> Trainer:
    chosen = {
        "accelerator": "gpu", "devices": 1, "max_epochs": 2, "gradient_clip_val": 1.0, "log_every_n_steps": 50, "logger": False,
        "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False,
        "num_sanity_val_steps": 0, "default_root_dir": folder, "callbacks": callbacks, **settings,
    }  # fmt: skip
    return Trainer(**chosen)


def weights(module: VAEModule) -> torch.Tensor:
    return torch.cat([p.detach().flatten().cpu() for p in module.parameters()])


class NeverWait(Callback):
    """Operations of a step that wait for the GPU raise; capturing a step may wait once."""

    watched = 0

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step >= RECORDED:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, *_: Any) -> None:
        self.watched += torch.cuda.get_sync_debug_mode() == 2
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", MODELS)
def test_a_step_never_makes_the_gpu_wait(processed, tmp_path, name, precision):
    module, data, callbacks = made(processed, name)
    guard = NeverWait()
    try:
        settings = {"precision": precision, "limit_val_batches": 0, "max_epochs": 4}
        trainer(tmp_path, [*callbacks, guard], **settings).fit(module, data)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert guard.watched > 20


def test_the_guard_sees_what_waits():
    value = torch.ones(3, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError):
            value.sum().item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def without_capture(module: VAEModule) -> None:
    """Run every step with numbers as tensors, as captured steps do; otherwise torch draws masks in another order."""
    loss = module._loss

    def on_tensors(batch: Batch, *rest: Any) -> Any:
        *numbers, kind = rest
        held = (torch.tensor(float(number), device="cuda") for number in numbers)
        return loss(batch, *held, kind)

    module.on_train_start = lambda: None  # type: ignore[method-assign]
    module._loss = on_tensors  # type: ignore[method-assign]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", MODELS)
def test_captured_steps_give_the_bits_of_steps_that_are_run(
    processed, tmp_path, monkeypatch, name, precision
):
    found, recorded, record = [], [], CapturedStep._record
    monkeypatch.setattr(CapturedStep, "_record", lambda *of: recorded.append(1) or record(*of))
    for captures in (False, True):
        module, data, callbacks = made(processed, name)
        if not captures:
            without_capture(module)
        trainer(tmp_path, callbacks, precision=precision).fit(module, data)
        assert bool(recorded) is captures
        found.append(weights(module))
    assert torch.equal(*found)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_gives_the_same_bits(processed, tmp_path, name):
    found = []
    for _ in range(2):
        module, data, callbacks = made(processed, name)
        trainer(tmp_path, callbacks, precision="bf16-mixed", deterministic=True).fit(module, data)
        found.append(weights(module))
    torch.use_deterministic_algorithms(False)
    assert torch.equal(*found)
    assert torch.isfinite(found[0]).all()


@pytest.mark.parametrize("name", ["default", "on genes, masked"])
def test_data_that_does_not_fit_gives_the_same_bits(processed, tmp_path, monkeypatch, name):
    found = []
    for free in (None, 0):
        if free is not None:
            monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 1))
        module, data, callbacks = made(processed, name)
        trainer(tmp_path, callbacks, deterministic=True).fit(module, data)
        loader = data.train_dataloader()
        assert loader.x_nf.is_cuda == (free is None)
        assert loader.pin == (free is not None)
        found.append(weights(module))
    torch.use_deterministic_algorithms(False)
    assert torch.equal(*found)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_means_the_same_on_both(processed, tmp_path, name):
    module, data, callbacks = made(processed, name)
    trainer(tmp_path, callbacks).fit(module, data)
    x_ng = data.expression("test").cpu()
    model = module.trained()
    model.vae.eval()
    with torch.inference_mode():
        design = None if model.vae.unknown_k is None else model.vae.unknown_k.cpu().expand(len(x_ng), -1)
        on_cpu = model.vae.cpu().encode(x_ng, design)[0]
        seen = model.vae.decode(on_cpu, design)
        model.vae.cuda()
        moved = None if design is None else design.cuda()
        on_gpu = model.vae.encode(x_ng.cuda(), moved)[0]
        there = model.vae.decode(on_gpu, moved)
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(there.cpu(), seen, rtol=1e-3, atol=2e-3)


def test_training_and_validation_reach_what_they_reach_on_a_cpu(processed, tmp_path):
    losses = {}
    for accelerator in ("cpu", "gpu"):
        module, data, callbacks = made(processed, "on genes, masked")
        fitted = trainer(
            tmp_path, callbacks, accelerator=accelerator, max_epochs=20, precision=best_precision(accelerator)
        )
        fitted.fit(module, data)
        losses[accelerator] = float(fitted.callback_metrics["val/r2"])
    assert losses["gpu"] > 0.1
    assert abs(losses["gpu"] - losses["cpu"]) < 0.02
