"""A NaN or infinite loss stops training before anything is saved, and names step, sample and cause."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from gtex_vae.data.datamodule import ExpressionDataModule
from gtex_vae.errors import NonFiniteLossError
from gtex_vae.training.callbacks.checkpoints import LastCheckpoint, place_checkpoints
from gtex_vae.training.callbacks.finite_loss import FiniteLoss, likely_cause
from gtex_vae.training.module import VAEModule

BATCH = 16


def module(data: ExpressionDataModule, *, lr: float = 1e-3, **model: Any) -> VAEModule:
    torch.manual_seed(0)
    return VAEModule(
        {"_target_": "gtex_vae.models.vae.VAE", "latent_dim": 4, "hidden_dims": [8], **model},
        {"_target_": "gtex_vae.models.objective.Objective"},
        {"_target_": "torch.optim.AdamW", "lr": lr},
        None,
        genes=data.genes,
        standardize=data.standardize,
        unit=data.unit,
    )


def fit(data: ExpressionDataModule, module: VAEModule, folder: Path, **trainer: Any) -> Trainer:
    made = Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, default_root_dir=folder, callbacks=[FiniteLoss(), LastCheckpoint(1)], **trainer,
    )  # fmt: skip
    place_checkpoints(made, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.fit(module, data)
    return made


def order(data: ExpressionDataModule) -> list[int]:
    """Return the training rows in the order of the first epoch."""
    return [int(row) for batch in data.train_dataloader() for row in batch.row_n]


def test_healthy_training_is_left_alone(data: ExpressionDataModule, tmp_path: Path) -> None:
    trained = fit(data, module(data), tmp_path)
    assert trained.global_step == 3 * len(data.train_dataloader())


@pytest.mark.parametrize(("bad", "word"), [(np.nan, "NaN"), (np.inf, "infinity")])
@pytest.mark.parametrize("position", [5, BATCH * 2 + 3])
def test_a_poisoned_sample_is_named_with_its_step(
    data: ExpressionDataModule, tmp_path: Path, bad: float, word: str, position: int
) -> None:
    row = order(data)[position]
    data.adata.X[row, 7] = bad  # the tensor of the batches shares its memory
    step = position // BATCH + 1
    with pytest.raises(NonFiniteLossError) as error:
        fit(data, module(data), tmp_path)
    message = str(error.value)
    assert f"step {step} (epoch 0)" in message
    assert f"sample row {row} contains NaN or infinity" in message
    assert "\n" not in message
    # no checkpoint was saved
    saved = list(tmp_path.rglob("last.ckpt"))
    if step == 1:
        assert not saved
    else:
        assert torch.load(saved[0], weights_only=True)["global_step"] == step - 1
        assert all(p.isfinite().all() for p in torch.load(saved[0], weights_only=True)["state_dict"].values())


@pytest.mark.parametrize(("lr", "shown"), [(1e6, "1e+06"), (1e15, "1e+15")])
def test_a_learning_rate_out_of_all_bounds_is_named(
    data: ExpressionDataModule, tmp_path: Path, lr: float, shown: str
) -> None:
    with pytest.raises(NonFiniteLossError) as error:
        fit(data, module(data, lr=lr), tmp_path)
    # The first steps make the weights explode; the rate decides which loss shows it first.
    assert re.match(r"loss is not finite at step [23] \(epoch 0\), batch of rows \[", str(error.value))
    assert f"the learning rate is {shown}: lower optimizer.lr" in str(error.value)


def test_huge_values_are_the_likely_cause_before_the_learning_rate(
    data: ExpressionDataModule, tmp_path: Path
) -> None:
    row = order(data)[2]
    data.adata.X[row, 7] = 3e30
    with pytest.raises(NonFiniteLossError, match=r"values up to 3e\+30 in this batch; try data.clip=10"):
        fit(data, module(data), tmp_path)


def test_half_precision_overflow_is_told_apart(data: ExpressionDataModule) -> None:
    class Half:
        precision = "16-mixed"

    made = module(data)
    made._trainer = Half()  # type: ignore[assignment]
    assert likely_cause(made, None) == "fp16 overflowed; use trainer.precision=bf16-mixed or 32-true"


def test_the_first_bad_step_is_kept_until_somebody_looks(data: ExpressionDataModule) -> None:
    """On a GPU the recorded step is read only sometimes; later losses must not change it."""

    class Loop:
        global_step, current_epoch = 0, 0

    class Model:
        class trainer:
            precision = "16-mixed"

    callback = FiniteLoss(every_n_steps=10**9)
    for step, value in enumerate([1.0, 2.0, float("inf"), float("nan"), 1.0]):
        Loop.global_step = step
        loss = torch.full((), value)
        # as on a GPU between two checks
        callback._check = lambda *_: None  # type: ignore[method-assign]
        callback.on_train_batch_end(Loop(), Model(), {"loss": loss}, None, step)  # type: ignore[arg-type]
    del callback._check
    with pytest.raises(NonFiniteLossError, match=r"step 2 \(epoch 0\): fp16 overflowed"):
        callback.on_validation_start(Loop(), Model())  # type: ignore[arg-type]
