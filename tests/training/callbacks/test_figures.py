"""Figures show the model's own predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gtex_vae.data.datamodule import ExpressionDataModule
from gtex_vae.training.callbacks.figures import predict
from gtex_vae.training.module import VAEModule


@pytest.mark.parametrize("covariates", [[], ["sex", "tissue_group"]])
def test_figures_show_the_reconstructions_of_the_model(data, covariates):
    data = ExpressionDataModule("x", str(data.processed), batch_size=16, covariates=covariates)
    data.setup()
    torch.manual_seed(0)
    module = VAEModule(
        {"_target_": "gtex_vae.models.vae.VAE", "latent_dim": 4, "hidden_dims": [8], "n_members": 2},
        {"_target_": "gtex_vae.models.objective.Objective"},
        {"_target_": "torch.optim.AdamW", "lr": 1e-3},
        None,
        genes=data.genes, standardize=data.standardize, unit=data.unit,
        covariates=None if data.conditions is None else data.conditions.columns,
    )  # fmt: skip
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x_ng, c_nk, obs = data.expression("val").numpy(), data.covariate_design("val"), data.annotations("val")
    module.train()
    found_nd, found_ng = predict(module.vae, x_ng, c_nk, mode=True)
    assert module.vae.training
    model = module.trained().with_covariates(obs)
    np.testing.assert_allclose(found_nd, model.embed(x_ng), atol=1e-5)
    np.testing.assert_allclose(found_ng, model.reconstruct(x_ng), atol=1e-5)
    if covariates:
        unknown_ng = predict(module.vae, x_ng, None, mode=True)[1]
        assert np.abs(found_ng - unknown_ng).max() > 1e-3
