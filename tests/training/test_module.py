"""Steps never wait for the GPU, and the same seed gives the same bits.

There is no GPU here: on one, `.item()`, a copy between devices and a result whose size depends on values stop the queue of
kernels. All three are visible on a CPU.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils._python_dispatch import TorchDispatchMode

from gtex_vae.data.datamodule import ExpressionDataModule
from gtex_vae.data.loading import memory as loader
from gtex_vae.data.loading import standardized
from gtex_vae.data.loading.memory import BatchLoader
from gtex_vae.training.callbacks.kl_annealing import KLAnnealing
from gtex_vae.training.callbacks.masking import Masking
from gtex_vae.training.module import VAEModule

SIZE_DEPENDS_ON_VALUES = {"aten::nonzero", "aten::masked_select", "aten::repeat_interleave", "aten::unique_dim", "aten::_unique2"}  # fmt: skip


class NoWaiting(TorchDispatchMode):
    """Refuse operations that wait for the device; numbers that were drawn on the host may be read."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn_on_host: dict[
            int, torch.Tensor
        ] = {}  # keeps the tensors alive, so that no id is used twice
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        self.seen += 1
        if name == "aten::_local_scalar_dense" and args[0].data_ptr() not in self.drawn_on_host:
            raise AssertionError("a value is read from the device")
        if name in SIZE_DEPENDS_ON_VALUES:
            raise AssertionError(f"{name}: the size of the result is read from the device")
        if name == "aten::index" and any(i is not None and i.dtype == torch.bool for i in args[1]):
            raise AssertionError("indexing with a mask: the size of the result is read from the device")
        if name == "aten::_to_copy" and kwargs.get("device") is not None:
            raise AssertionError("a copy to a device")
        if name == "aten::lift_fresh":
            raise AssertionError("a tensor made of Python's numbers is copied to the device")
        result = func(*args, **kwargs)
        if (
            name == "aten::randint"
            and kwargs.get("device") in (None, torch.device("cpu"))
            and result.ndim == 0
        ):
            self.drawn_on_host[result.data_ptr()] = result
        return result


def module(
    data: ExpressionDataModule, *, contrastive: dict[str, Any] | None = None, **model: Any
) -> VAEModule:
    torch.manual_seed(0)
    covariates = None if data.conditions is None else data.conditions.columns
    return VAEModule(
        {"_target_": "gtex_vae.models.vae.VAE", "latent_dim": 4, "hidden_dims": [8], **model},
        {"_target_": "gtex_vae.models.objective.Objective"},
        {"_target_": "torch.optim.AdamW", "lr": 1e-3, "fused": True},
        None,
        genes=data.genes, standardize=data.standardize, unit=data.unit, contrastive=contrastive, covariates=covariates,
    )  # fmt: skip


def fit(
    data: ExpressionDataModule, made: VAEModule, folder: Path, *callbacks: Any, **trainer: Any
) -> Trainer:
    fitted = Trainer(
        accelerator="cpu", max_steps=4, logger=False, enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
        enable_checkpointing=False, default_root_dir=folder, callbacks=[KLAnnealing(), *callbacks], gradient_clip_val=1.0, **trainer,
    )  # fmt: skip
    fitted.fit(made, data)
    return fitted


MODELS: dict[str, dict[str, Any]] = {
    "default": {"n_components": 20, "n_members": 3},
    "on genes, masked": {"masked": True},
    "published": {"likelihood": "mse", "linear_skip": False, "dropout": 0.3, "decoder_dropout": 0.3},
    "conditional": {"covariates": ["sex", "tissue_group"]},
    "views": {"contrastive": {"_target_": "gtex_vae.models.contrastive.ViewContrast"}, "masked": True},
    "tissue": {"contrastive": {"_target_": "gtex_vae.models.contrastive.LabelContrast"}},
}


@pytest.mark.parametrize("name", MODELS)
def test_nothing_in_a_step_waits_for_the_device(data, tmp_path, monkeypatch, name):
    settings = dict(MODELS[name])
    masked, covariates = settings.pop("masked", False), settings.pop("covariates", None)
    if covariates:
        data = ExpressionDataModule("x", str(data.processed), batch_size=16, covariates=covariates)
        data.setup()
    made = module(data, **settings)
    if made.contrastive is not None:
        made.contrastive.look_up(data.adata.obs)
    if made.vae.basis_fg is not None:
        data.rotate(made.vae.basis_fg)
    step, mode = made.training_step, NoWaiting()

    def watched(*arguments: Any) -> torch.Tensor:
        with mode:
            loss = step(*arguments)
            torch.autograd.grad(loss, [p for p in made.parameters() if p.requires_grad], retain_graph=True)
        return loss

    made.training_step = watched
    fitted = fit(data, made, tmp_path, *([Masking(0.1, 0.3, whole=0.0)] if masked else []))
    assert fitted.global_step == 4
    assert mode.seen > 100


def test_the_guard_sees_what_waits():
    value = torch.ones(3)
    for wait in (
        lambda: value.sum().item(),
        lambda: value[value > 0],
        lambda: torch.tensor([1.0, 2.0]),
        lambda: value.nonzero(),
        lambda: value.to("meta"),
    ):
        with pytest.raises(AssertionError), NoWaiting():
            wait()
    with NoWaiting():
        assert int(torch.randint(4, ())) < 4


def test_batches_are_gathered_where_the_matrix_lies():
    x_nf = torch.arange(40.0).reshape(20, 2)
    batches = iter(BatchLoader(x_nf, torch.arange(20), batch_size=4, shuffle=True))
    next(batches)  # the order of the epoch is drawn on the host and copied once
    with NoWaiting():
        batch = next(batches)
    assert torch.equal(batch.x_nf, x_nf[batch.row_n])


def test_a_matrix_that_does_not_fit_is_gathered_into_page_locked_memory(monkeypatch):
    empty, asked = torch.empty, []

    def recorded(*shape: int, pin_memory: bool = False) -> torch.Tensor:
        asked.append((shape, pin_memory))
        return empty(*shape)

    monkeypatch.setattr(loader.torch, "empty", recorded)
    x_nf = torch.arange(40.0).reshape(20, 2)
    found = list(BatchLoader(x_nf, torch.arange(20), batch_size=8, shuffle=False, pin=True))
    assert asked == [((8, 2), True), ((8, 2), True), ((4, 2), True)]
    assert torch.equal(torch.cat([batch.x_nf for batch in found]), x_nf)


@pytest.mark.parametrize(("free", "stays"), [(10**9, False), (100, True)])
def test_the_matrix_goes_to_the_gpu_where_it_fits_and_is_pinned_where_not(data, monkeypatch, free, stays):
    class Plugged:
        class strategy:
            root_device = torch.device("cuda", 0)

        global_rank, world_size = 0, 1

    moved: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device: moved.append(device) or self)
    data.trainer = Plugged()
    made = data.train_dataloader()
    assert moved == ([] if stays else [torch.device("cuda", 0)])
    assert made.pin or not stays
    assert standardized._resident(torch.device("cpu"), made.x_nf) is made.x_nf


def test_the_same_seed_gives_the_same_bits(data, tmp_path):
    weights = []
    for _ in range(2):
        made = module(data, n_components=20, n_members=2)
        fit(data, made, tmp_path, Masking(0.1, 0.3), deterministic=True)
        weights.append(torch.cat([p.detach().flatten() for p in made.parameters()]))
    torch.use_deterministic_algorithms(False)
    assert torch.equal(*weights)
