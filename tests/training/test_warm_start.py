"""A VAE starts from the weights of a trained one, gene by gene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gtex_vae.data.datamodule import ExpressionDataModule
from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import ConfigError, RunError
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.vae import VAE
from gtex_vae.training.start import fit_pca, initial_module
from gtex_vae.training.warm_start import check_data, find_pretrained, with_architecture


def trained(genes: list[str], unit: str, **architecture: Any) -> TrainedModel:
    torch.manual_seed(3)
    architecture = {"latent_dim": 4, "hidden_dims": [8], **architecture}
    vae = VAE(len(genes), **architecture)
    for parameter in vae.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return TrainedModel(
        vae, Standardizer(len(genes)), gene_ids=genes, gene_names=genes, unit=unit, architecture=architecture
    )


def settings(folder: Path, **model: Any) -> dict[str, Any]:
    return {
        "model": {"_target_": "gtex_vae.models.vae.VAE", "latent_dim": 6, "hidden_dims": [9], "n_components": None, **model},
        "objective": {"_target_": "gtex_vae.models.objective.Objective"},
        "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-3},
        "learning_rate": None, "contrastive": None, "seed": 0, "compile": False,
        "paths": {"outputs": str(folder)}, "pretrained": str(folder / "model"),
    }  # fmt: skip


def start(data: ExpressionDataModule, given: dict[str, Any], stated: tuple[str, ...] = ()) -> Any:
    model = find_pretrained(given)
    check_data(model, data)
    given = with_architecture(given, model, stated)
    pca = fit_pca(data, given["model"]["latent_dim"], given["model"]["n_components"])
    return initial_module(given, data, pca, model)


@pytest.mark.parametrize("components", [None, 12])
def test_genes_in_another_order_give_the_same_model(data, tmp_path, components):
    genes = data.genes["ids"]
    order = np.random.default_rng(0).permutation(len(genes))
    likelihood = "per_gene" if components is None else "per_sample"
    model = trained([genes[at] for at in order], data.unit, n_components=components, likelihood=likelihood)
    model.save(tmp_path / "model")
    module = start(data, settings(tmp_path))
    x_ng = data.expression("val").numpy()
    found = module.trained()
    np.testing.assert_allclose(found.embed(x_ng), model.embed(x_ng[:, order]), atol=1e-5)
    np.testing.assert_allclose(
        found.reconstruct(x_ng)[:, order], model.reconstruct(x_ng[:, order]), atol=1e-5
    )


def test_new_genes_keep_their_start(data, tmp_path):
    genes = data.genes["ids"]
    trained([*genes[:40], "ENSG99999999999"], data.unit).save(tmp_path / "model")
    module = start(data, settings(tmp_path))
    assert module.vae.encoders[0].skip.weight.shape == (4, len(genes))
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())


def test_what_cannot_be_used_is_refused(data, tmp_path):
    genes = data.genes["ids"]
    with pytest.raises(RunError, match=r"^pretrained=.*model does not exist"):
        start(data, settings(tmp_path))
    trained(genes, data.unit).save(tmp_path / "model")
    with pytest.raises(ConfigError, match=r"model\.latent_dim=6 differs from 4 of pretrained="):
        start(data, settings(tmp_path), stated=("model.latent_dim",))
    trained(genes, "log2(CPM+1)").save(tmp_path / "model")
    with pytest.raises(ConfigError, match=r"was trained on log2\(CPM\+1\)"):
        start(data, settings(tmp_path))
    trained(genes[:50], data.unit, n_components=12).save(tmp_path / "model")
    with pytest.raises(ConfigError, match="same genes"):
        start(data, settings(tmp_path))
    trained(genes[:20], data.unit).save(tmp_path / "model")
    with pytest.raises(ConfigError, match=f"only 20 of the data's {len(genes)} genes"):
        start(data, settings(tmp_path))
