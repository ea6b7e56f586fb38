"""Steps towards the mode of the posterior."""

from __future__ import annotations

import pytest
import torch

from gtex_vae.errors import ConfigError
from gtex_vae.functional.masking import hide
from gtex_vae.functional.posterior_mode import preconditioner, step_to_mode
from gtex_vae.models.vae import REFINEMENTS, VAE
from gtex_vae.nn.decoder import Decoder
from gtex_vae.nn.mlp import ACTIVATIONS, Activation, Norm


def energy(vae: VAE, z_nd: torch.Tensor, x_ng: torch.Tensor) -> torch.Tensor:
    """Minus the log posterior density of each sample, up to a constant."""
    off_ng = vae.decode(z_nd) - x_ng
    precision = torch.exp(-vae.likelihood.log_var)
    return 0.5 * ((precision * off_ng.square()).sum(1) + z_nd.square().sum(1))


def model(**arguments: object) -> VAE:
    torch.manual_seed(0)
    return VAE(30, 4, [16, 8], mode_steps=2, **arguments).eval()  # type: ignore[arg-type]


def test_with_a_linear_decoder_it_is_ridge_regression() -> None:
    torch.manual_seed(0)
    weight_fd, x_nf, precision_f = torch.randn(9, 3), torch.randn(5, 9), torch.rand(9) + 0.5

    def linearized(z_nd):  # type: ignore[no-untyped-def]
        return z_nd @ weight_fd.T, lambda slope_nf: slope_nf @ weight_fd

    metric_dd = preconditioner(weight_fd, precision_f)
    found_nd = step_to_mode(linearized, torch.randn(5, 3), x_nf, precision_f, metric_dd, steps=40)
    weighted_df = weight_fd.T * precision_f
    solved_nd = torch.linalg.solve(weighted_df @ weight_fd + torch.eye(3), weighted_df @ x_nf.T).T
    torch.testing.assert_close(found_nd, solved_nd, rtol=0.0, atol=5e-3)


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_the_slope_is_that_of_autograd(norm: Norm, activation: Activation) -> None:
    torch.manual_seed(0)
    decoder = Decoder(
        3,
        9,
        [8, 7],
        norm=norm,
        activation=activation,
        dropout=0.1,
        linear_skip=norm != "none",
        n_covariates=2,
    )
    for _ in range(5):
        decoder(torch.randn(50, 3), torch.randn(50, 2))  # running moments that are not 0 and 1
    z_nd, c_nk, slope_ng = torch.randn(6, 3), torch.randn(6, 2), torch.randn(6, 9)
    x_hat_ng, pull = decoder.eval().linearized(z_nd, c_nk)
    at_nd = z_nd.clone().requires_grad_()
    expected_ng = decoder(at_nd, c_nk)
    (expected_nd,) = torch.autograd.grad(expected_ng, at_nd, slope_ng)
    torch.testing.assert_close(x_hat_ng, expected_ng)
    torch.testing.assert_close(pull(slope_ng), expected_nd)


@pytest.mark.parametrize("likelihood", ["per_sample", "shared", "per_gene", "mse"])
def test_no_sample_is_worse_off_and_most_gain(likelihood: str) -> None:
    vae, x_ng = model(likelihood=likelihood), 3.0 * torch.randn(200, 30)
    with torch.inference_mode():
        start_nd, moved_nd = vae.encode_features(x_ng)[0], vae.embed(x_ng)
        gain_n = energy(vae, start_nd, x_ng) - energy(vae, moved_nd, x_ng)
    assert (gain_n > -1e-3).all()
    assert (gain_n > 0.0).float().mean() > 0.9


def test_a_sample_does_not_depend_on_the_batch() -> None:
    vae, x_ng = model(n_components=20, n_members=2), torch.randn(7, 30)
    with torch.inference_mode():
        torch.testing.assert_close(vae.embed(x_ng)[2:3], vae.embed(x_ng[2:3]), rtol=1e-4, atol=1e-5)


def test_training_and_its_validation_do_without() -> None:
    vae, x_ng = model(), torch.randn(7, 30)
    with torch.no_grad():
        assert torch.equal(vae(x_ng).mu_nd, vae.encode_features(x_ng)[0])
        vae.train()
        vae.mode_steps = 0
        torch.manual_seed(1)
        plain_nd = vae.encode(x_ng)[0]
        vae.mode_steps = 2
        torch.manual_seed(1)
        assert torch.equal(vae.encode(x_ng)[0], plain_nd)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode_steps": -1}, "model.mode_steps=-1 must not be negative"),
        ({"mode_steps": 2, "linear_skip": False}, "model.mode_steps=2 needs model.linear_skip=true"),
    ],
)
def test_impossible_steps_are_refused(arguments: dict[str, int | bool], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VAE(30, 4, [8], **arguments)  # type: ignore[arg-type]


def test_only_the_last_round_of_imputation_takes_steps() -> None:
    vae, x_ng = model(n_components=20, n_members=2), torch.randn(7, 30)
    observed_ng = torch.rand(7, 30) > 0.3
    with torch.inference_mode():
        imputed_ng = vae.reconstruct(x_ng, observed_ng)
        vae.mode_steps = 0
        whole_ng = hide(x_ng, observed_ng)
        for _ in range(REFINEMENTS):
            whole_ng = torch.where(observed_ng, x_ng, vae.reconstruct(whole_ng))
        assert not torch.allclose(imputed_ng, vae.reconstruct(whole_ng), atol=1e-3)
        vae.mode_steps = 2
        torch.testing.assert_close(imputed_ng, vae.reconstruct(whole_ng))
