"""Gradients are clipped as torch clips them, and do not change within the limit."""

from types import SimpleNamespace

import pytest
import torch

from gtex_vae.training.module import VAEModule


@pytest.fixture
def module():
    genes = [f"g{i}" for i in range(30)]
    made = VAEModule(
        {"_target_": "gtex_vae.models.vae.VAE", "latent_dim": 4, "hidden_dims": [8]},
        {"_target_": "gtex_vae.models.objective.Objective"},
        {"_target_": "torch.optim.AdamW", "lr": 1e-3},
        None,
        genes={"ids": genes, "names": genes}, standardize={"method": "standard"}, unit="",
    )  # fmt: skip
    for parameter in made.parameters():
        parameter.grad = torch.randn_like(parameter)
    return made


def norm(module):
    return float(torch.nn.utils.get_total_norm([p.grad for p in module.parameters()]))


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("factor", [0.5, 0.999, 1.001, 100.0, float("nan")])
def test_as_torch_clips(module, monkeypatch, factor, processes):
    monkeypatch.setattr(
        VAEModule, "trainer", SimpleNamespace(precision="32-true", world_size=processes), raising=True
    )
    limit = norm(module) / factor
    before = [p.grad.clone() for p in module.parameters()]
    module.configure_gradient_clipping(torch.optim.AdamW(module.parameters()), limit, "norm")
    after = [p.grad.clone() for p in module.parameters()]
    for parameter, gradient in zip(module.parameters(), before, strict=True):
        parameter.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(module.parameters(), limit)
    for gradient, parameter in zip(after, module.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-6, atol=0.0, equal_nan=True)
    if factor < 1.0:
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
