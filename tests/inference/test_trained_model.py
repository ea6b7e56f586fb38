"""A trained model: embeds by the mean, survives saving bit by bit, and refuses what does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import RunError
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.vae import VAE

G = 12
ARCHITECTURE = {"latent_dim": 3, "hidden_dims": [8], "likelihood": "per_gene", "norm": "layer"}


@pytest.fixture
def x_ng() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((20, G)).astype(np.float32)


@pytest.fixture
def model(x_ng: np.ndarray) -> TrainedModel:
    torch.manual_seed(0)
    vae = VAE(G, **ARCHITECTURE)  # type: ignore[arg-type]
    scaler = Standardizer(G, method="robust", clip=5.0).fit(3 + 2 * x_ng)
    return TrainedModel(
        vae, scaler, gene_ids=[f"ENSG{i}" for i in range(G)], gene_names=[f"β{i}" for i in range(G)],
        unit="log2(TPM+1)", architecture=ARCHITECTURE,
    )  # fmt: skip


def test_embedding_is_the_posterior_mean_and_never_a_sample(model: TrainedModel, x_ng: np.ndarray) -> None:
    embedded = model.embed(x_ng)
    np.testing.assert_array_equal(embedded, model.embed(x_ng))
    with torch.no_grad():
        np.testing.assert_array_equal(embedded, model.vae(torch.from_numpy(x_ng)).mu_nd.numpy())
    assert not model.training
    assert embedded.dtype == np.float32


def test_hidden_entries_have_no_say(model: TrainedModel, x_ng: np.ndarray) -> None:
    observed_ng = np.random.default_rng(1).random(x_ng.shape) > 0.3
    changed_ng = np.where(observed_ng, x_ng, np.float32(50.0))
    np.testing.assert_array_equal(
        model.reconstruct(x_ng, observed_ng), model.reconstruct(changed_ng, observed_ng)
    )


def test_save_and_load_give_the_same_model(model: TrainedModel, x_ng: np.ndarray, tmp_path: Path) -> None:
    for _ in range(2):  # the second time over the first
        model.save(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "model.json",
        "weights.safetensors",
    ]
    loaded = TrainedModel.load(str(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.reconstruct(x_ng), model.reconstruct(x_ng))
    assert torch.equal(loaded.scaler(torch.from_numpy(x_ng)), model.scaler(torch.from_numpy(x_ng)))
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name in ("gene_ids", "gene_names", "unit", "architecture"):
        assert getattr(loaded, name) == getattr(model, name)
    assert loaded.scaler.settings == model.scaler.settings


def test_what_is_no_model_is_refused_in_one_line(model: TrainedModel, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with pytest.raises(RunError, match=r"model contains no readable model"):
        TrainedModel.load(folder)
    model.save(folder)
    whole = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"contains no readable model"):
        TrainedModel.load(folder)
    (folder / "weights.safetensors").write_bytes(whole)

    description = json.loads((folder / "model.json").read_text())
    for change, message in (
        ({"format": 0}, "format 0 is not supported; this version reads format 1"),
        ({"gene_ids": description["gene_ids"][:-1]}, "the weights do not fit model.json"),
        ({"architecture": {**ARCHITECTURE, "hidden_dims": [9]}}, "the weights do not fit model.json"),
    ):
        (folder / "model.json").write_text(json.dumps(description | change))
        with pytest.raises(RunError, match=message) as error:
            TrainedModel.load(folder)
        assert "\n" not in str(error.value)
    (folder / "model.json").write_text("{")
    with pytest.raises(RunError, match=r"contains no readable model"):
        TrainedModel.load(folder)
