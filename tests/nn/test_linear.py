"""The layer through oneDNN against torch's own."""

import pytest
import torch
from torch import nn

from gtex_vae.nn import linear
from gtex_vae.nn.linear import LARGE, Linear


def pair(width_in: int, width_out: int, bias: bool) -> tuple[Linear, nn.Linear]:
    torch.manual_seed(0)
    ours, torchs = (kind(width_in, width_out, bias=bias) for kind in (Linear, nn.Linear))
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


def calls(monkeypatch) -> list[tuple[int, ...]]:
    seen, product = [], linear._product
    monkeypatch.setattr(linear, "_product", lambda *of: seen.append(tuple(of[0].shape)) or product(*of))
    return seen


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("width_in", "width_out"), [(2048, 128), (128, 2048), (777, 1031)])
def test_output_and_gradients_are_those_of_torch(monkeypatch, width_in, width_out, bias):
    seen = calls(monkeypatch)
    layers = pair(width_in, width_out, bias)
    x = torch.randn(64, width_in)
    outputs, gradients = [], []
    for layer in layers:
        x_ni = x.clone().requires_grad_()
        outputs.append(layer(x_ni))
        (outputs[-1] * torch.arange(width_out)).sum().backward()
        gradients.append([x_ni.grad, *(p.grad for p in layer.parameters())])
    assert len(seen) == 3
    assert torch.allclose(*outputs, rtol=1e-4, atol=1e-4)
    for ours, torchs in zip(*gradients, strict=True):
        assert ours.shape == torchs.shape
        assert ours.is_contiguous()
        assert (ours - torchs).abs().max() < 1e-5 * torchs.abs().max()


def test_no_gradient_is_made_for_the_data(monkeypatch):
    seen = calls(monkeypatch)
    ours, _ = pair(2048, 128, False)
    ours(torch.randn(8, 2048)).sum().backward()
    assert seen == [(8, 2048), (128, 8)]  # forward, gradient of the weights


def test_without_gradients_as_with_them():
    ours, _ = pair(1024, 512, True)
    x = torch.randn(16, 1024)
    with torch.no_grad():
        alone = ours(x)
    assert torch.equal(alone, ours(x))


def test_what_onednn_is_not_for_goes_to_torch(monkeypatch):
    seen = calls(monkeypatch)
    ours, torchs = pair(1024, 512, True)
    small, _ = pair(64, LARGE // 64 - 1, True)
    small(torch.randn(8, 64))
    assert torch.equal(ours(torch.ones(3, 5, 1024)), torchs(torch.ones(3, 5, 1024)))
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(torch.ones(8, 1024)).dtype == torch.bfloat16
    tangent = torch.func.jvp(ours, (torch.ones(8, 1024),), (torch.ones(8, 1024),))[1]
    assert torch.allclose(tangent, torchs(torch.ones(8, 1024)) - torchs.bias, atol=1e-5)
    assert not seen


def test_a_model_trains_as_with_torchs_products(monkeypatch):
    """Same seed, same curve within rounding: what speed must not change."""
    from gtex_vae.models.vae import VAE

    curves = []
    for large in (LARGE, 2**62):
        monkeypatch.setattr(linear, "LARGE", large)
        torch.manual_seed(0)
        vae = VAE(600, 8, [512], likelihood="mse")
        optimizer = torch.optim.Adam(vae.parameters(), lr=1e-3)
        x_ng = torch.randn(256, 8) @ torch.randn(8, 600)
        losses = []
        for _ in range(12):
            output = vae(x_ng)
            loss = vae.likelihood(output.x_hat_nf, x_ng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        curves.append(torch.stack(losses))
    assert curves[0][-1] < 0.8 * curves[0][0]
    assert torch.allclose(*curves, rtol=1e-4)
