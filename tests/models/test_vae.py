"""The VAE: every allowed shape works, every parameter learns, and evaluation never samples."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gtex_vae.config import check
from gtex_vae.errors import ConfigError
from gtex_vae.functional.masking import hide
from gtex_vae.models.objective import Objective
from gtex_vae.models.vae import REFINEMENTS, VAE
from gtex_vae.nn.likelihoods import LIKELIHOODS
from gtex_vae.nn.mlp import ACTIVATIONS, NORMS

ALL_NORMS = (*NORMS, "none")


@settings(max_examples=40)
@given(
    n_genes=st.integers(1, 15),
    latent=st.floats(0.0, 1.0),
    hidden_dims=st.lists(st.integers(1, 12), max_size=3),
    likelihood=st.sampled_from(list(LIKELIHOODS)),
    norm=st.sampled_from(ALL_NORMS),
    activation=st.sampled_from(list(ACTIVATIONS)),
    linear_skip=st.booleans(),
)
def test_any_architecture_from_one_dimension_to_as_many_as_genes(
    n_genes: int, latent: float, hidden_dims: list[int], **arguments: Any
) -> None:
    latent_dim = 1 + round(latent * (n_genes - 1))
    vae = VAE(n_genes, latent_dim, hidden_dims, **arguments)
    output = vae(torch.randn(4, n_genes))
    assert output.mu_nd.shape == output.log_var_nd.shape == output.z_nd.shape == (4, latent_dim)
    assert output.x_hat_nf.shape == (4, n_genes)
    assert output.x_hat_nf.isfinite().all()


def test_the_decoder_mirrors_the_encoder() -> None:
    vae = VAE(20, 3, [11, 7, 5], norm="none", dropout=0.0)
    widths = [layer.weight.shape for layer in vae.encoders[0].mlp if isinstance(layer, torch.nn.Linear)]
    mirrored = [layer.weight.shape for layer in vae.decoders[0].mlp if isinstance(layer, torch.nn.Linear)]
    assert widths == [(11, 20), (7, 11), (5, 7)]
    assert mirrored == [(5, 3), (7, 5), (11, 7)]
    assert vae.decoders[0].out.weight.shape == (20, 11)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latent_dim": 0}, "model.latent_dim=0 must lie between 1 and the number of genes, 20"),
        ({"latent_dim": 21}, "model.latent_dim=21"),
        ({"hidden_dims": [8, 0]}, r"model.hidden_dims=\[8, 0\]"),
        ({"hidden_dims": [-1]}, r"model.hidden_dims=\[-1\]"),
        ({"dropout": 1.0}, "model.dropout=1.0"),
        ({"dropout": float("nan")}, "model.dropout=nan"),
        ({"decoder_dropout": -0.1}, "model.decoder_dropout=-0.1"),
        ({"n_components": 21}, "model.n_components=21 must lie between 1 and the number of genes, 20"),
        ({"n_components": 2}, "model.latent_dim=3 must lie between 1 and the number of components, 2"),
        ({"n_components": 10, "likelihood": "per_gene"}, "set model.n_components=null"),
        ({"n_members": 0}, "model.n_members=0"),
        ({"likelihood": "negative_binomial", "n_components": 10}, "set model.n_components=null"),
        (
            {"likelihood": "negative_binomial", "mode_steps": 2},
            "model.mode_steps=2 needs a Gaussian likelihood",
        ),
    ],
)
def test_impossible_values_name_their_key(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VAE(20, **{"latent_dim": 3, "hidden_dims": [8], **arguments})


@pytest.mark.parametrize("key", ["likelihood", "norm", "activation"])
def test_unknown_names_are_refused_by_the_check_of_the_config(key: str) -> None:
    with pytest.raises(ConfigError, match=f"model.{key}='nonsense'"):
        check({"model": {"_target_": "gtex_vae.models.vae.VAE", key: "nonsense"}})


@pytest.mark.parametrize(
    ("likelihood", "norm", "linear_skip", "hidden_dims"),
    itertools.product(LIKELIHOODS, ALL_NORMS, [True, False], [[], [9], [9, 6]]),
)
def test_every_parameter_gets_a_gradient_and_moves(
    likelihood: Any, norm: Any, linear_skip: bool, hidden_dims: list[int]
) -> None:
    torch.manual_seed(0)
    vae = VAE(12, 3, hidden_dims, likelihood=likelihood, norm=norm, linear_skip=linear_skip, dropout=0.1)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=1e-2, weight_decay=0.0)
    x_ng = torch.randn(32, 12)
    before = {name: p.detach().clone() for name, p in vae.named_parameters()}
    size_n = torch.full((32,), 5.0)  # of a likelihood of counts
    Objective()(vae.likelihood, vae(x_ng), x_ng, beta=1.0, size_n=size_n).loss.backward()
    for name, p in vae.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().max() > 1e-6, name  # more than rounding, which is all that a dead one gets
    optimizer.step()
    for name, p in vae.named_parameters():
        assert not torch.equal(p, before[name]), name


@pytest.fixture
def vae() -> VAE:
    torch.manual_seed(0)
    vae = VAE(12, 3, [9, 6])
    for _ in range(3):
        vae(torch.randn(32, 12))  # gives the batch norms statistics of their own
    return vae


def test_training_draws_a_sample_around_the_mean(vae: VAE) -> None:
    x_ng = torch.randn(8, 12)
    torch.manual_seed(1)
    first = vae(x_ng)
    second = vae(x_ng)
    assert not torch.equal(first.z_nd, first.mu_nd)
    assert not torch.equal(first.z_nd, second.z_nd)
    noise = (first.z_nd - first.mu_nd) / (0.5 * first.log_var_nd).exp()
    assert 0.3 < float(noise.detach().std()) < 2.0


def test_evaluation_takes_the_mean_and_so_does_every_embedding(vae: VAE) -> None:
    vae.eval()
    x_ng = torch.randn(8, 12)
    first, second = vae(x_ng), vae(x_ng)
    assert torch.equal(first.z_nd, first.mu_nd)
    assert torch.equal(first.x_hat_nf, second.x_hat_nf)
    assert torch.equal(vae.embed(x_ng), first.mu_nd)
    assert torch.equal(vae.reconstruct(x_ng), first.x_hat_nf)
    assert torch.equal(vae.decode(vae.embed(x_ng)), first.x_hat_nf)


def test_embedding_is_the_mean_even_in_training_mode(vae: VAE) -> None:
    plain = VAE(12, 3, [9], norm="none", dropout=0.0).train()
    x_ng = torch.randn(8, 12)
    assert torch.equal(plain.embed(x_ng), plain.embed(x_ng))
    assert torch.equal(plain.embed(x_ng), plain(x_ng).mu_nd)


def test_hidden_entries_have_no_say(vae: VAE) -> None:
    vae.eval()
    x_ng = torch.randn(8, 12)
    observed_ng = torch.rand(8, 12) < 0.7
    changed_ng = torch.where(observed_ng, x_ng, 100.0)
    for function in (vae.embed, vae.reconstruct):
        assert torch.equal(function(x_ng, observed_ng), function(changed_ng, observed_ng))
        assert torch.equal(function(x_ng, observed_ng), function(x_ng, observed_ng.float()))
        assert not torch.equal(function(x_ng, observed_ng), function(x_ng))
    assert torch.equal(vae.embed(x_ng, observed_ng), vae.embed(hide(x_ng, observed_ng)))


def test_with_everything_observed_reconstruction_is_the_plain_one(vae: VAE) -> None:
    vae.eval()
    x_ng = torch.randn(8, 12)
    torch.testing.assert_close(vae.reconstruct(x_ng, torch.ones(8, 12)), vae.reconstruct(x_ng))


def test_refined_imputation_approaches_a_fixed_point() -> None:
    """With the linear paths at a PCA, filling in and encoding again is the EM of a PCA with missing values."""
    torch.manual_seed(0)
    basis_gd = torch.linalg.qr(torch.randn(12, 2))[0]
    x_ng = 3.0 * torch.randn(200, 2) @ basis_gd.T
    vae = VAE(12, 2, [], norm="none", dropout=0.0).eval()
    vae.start_from_pca(basis_gd.T, torch.tensor([9.0, 9.0]), torch.zeros(12))
    for part in (vae.encoders[0].mu, vae.decoders[0].out):
        torch.nn.init.zeros_(part.weight)
    observed_ng = (torch.rand(200, 12) > 0.2).float()
    hidden_ng = observed_ng == 0

    torch.testing.assert_close(vae.reconstruct(x_ng), x_ng, atol=1e-4, rtol=1e-4)
    by_hand = [vae.decode(vae.embed(x_ng, observed_ng))]
    for _ in range(REFINEMENTS):
        by_hand.append(vae.reconstruct(torch.where(hidden_ng, by_hand[-1], x_ng)))
    torch.testing.assert_close(vae.reconstruct(x_ng, observed_ng), by_hand[-1])
    # alternating projections on two sets that share the truth: no sample ever gets further from it
    error_rn = [((x_hat_ng - x_ng) * hidden_ng).norm(dim=1) for x_hat_ng in by_hand]
    for before_n, after_n in itertools.pairwise(error_rn[1:]):
        assert (after_n <= before_n + 1e-5).all()
    assert error_rn[-1].norm() < 0.5 * error_rn[0].norm()


def test_start_from_pca_whitens_and_reconstructs() -> None:
    torch.manual_seed(0)
    x_ng = torch.randn(500, 10) @ torch.diag(torch.linspace(3.0, 0.1, 10))
    x_ng -= x_ng.mean(0)
    _, s, v = torch.linalg.svd(x_ng, full_matrices=False)
    vae = VAE(10, 4, [6], dropout=0.0).eval()
    vae.start_from_pca(v[:3], s[:3].square() / len(x_ng), torch.zeros(10))
    assert vae.encoders[0].skip is not None
    assert vae.decoders[0].skip is not None
    score_nd = vae.encoders[0].skip(x_ng)[:, :3]
    torch.testing.assert_close(score_nd.T @ score_nd / len(x_ng), torch.eye(3), atol=1e-4, rtol=0)
    projected_ng = x_ng @ v[:3].T @ v[:3]
    torch.testing.assert_close(
        score_nd @ vae.decoders[0].skip.weight[:, :3].T, projected_ng, atol=1e-4, rtol=1e-4
    )


def test_a_model_of_coordinates_is_a_model_of_genes_within_the_basis() -> None:
    torch.manual_seed(0)
    basis_gf = torch.linalg.qr(torch.randn(20, 6))[0]
    vae = VAE(20, 3, [8], n_components=6).eval()
    vae.start_from_pca(basis_gf.T, torch.arange(6.0, 0.0, -1.0), torch.zeros(20))
    x_ng = torch.randn(7, 20)
    inside_ng = x_ng @ basis_gf @ basis_gf.T
    torch.testing.assert_close(vae.embed(x_ng), vae.embed(inside_ng))
    x_hat_ng = vae.reconstruct(x_ng)
    torch.testing.assert_close(x_hat_ng @ basis_gf @ basis_gf.T, x_hat_ng)
    # squared errors are those of the coordinates, and the same length outside for every decoder
    output = vae(vae.project(x_ng))
    outside_n = (x_ng - inside_ng).square().sum(1)
    error_n = (output.x_hat_nf - vae.project(x_ng)).square().sum(1)
    torch.testing.assert_close(error_n + outside_n, (x_hat_ng - x_ng).square().sum(1))
    assert vae.linear_path() is not None
    assert vae.linear_path().shape == (3, 20)  # type: ignore[union-attr]


@pytest.mark.parametrize("mean", [0.0, 0.7])
def test_the_basis_starts_at_the_pca_and_spans_the_mean(mean: float) -> None:
    torch.manual_seed(0)
    basis_gf = torch.linalg.qr(torch.randn(20, 6))[0]
    variance_f = torch.arange(6.0, 0.0, -1.0)
    mean_g = torch.full((20,), mean)
    vae = VAE(20, 3, [8], n_components=6, n_members=2, dropout=0.0).eval()
    vae.start_from_pca(basis_gf.T, variance_f, mean_g)
    assert vae.basis_fg is not None
    torch.testing.assert_close(vae.basis_fg @ vae.basis_fg.T, torch.eye(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(mean_g @ vae.basis_fg.T @ vae.basis_fg, mean_g, atol=1e-5, rtol=0)
    torch.testing.assert_close(vae.basis_fg[:5], basis_gf.T[:5], atol=1e-5, rtol=0)
    linear_dg = vae.linear_path()
    assert linear_dg is not None
    torch.testing.assert_close(linear_dg, basis_gf.T[:3] / variance_f[:3, None].sqrt(), atol=1e-5, rtol=0)


def test_an_ensemble_trains_every_member_and_answers_with_the_mean() -> None:
    torch.manual_seed(0)
    vae = VAE(12, 3, [9], n_members=3, dropout=0.0)
    x_ng = torch.randn(16, 12)
    partners = set()
    for _ in range(20):
        output = vae(x_ng)
        assert output.mu_nd.shape == (48, 3)
        z_parts, x_hat_parts = output.z_nd.split(16), output.x_hat_nf.split(16)
        vae.zero_grad()
        x_hat_parts[0].square().sum().backward(retain_graph=True)
        assert [any(p.grad is not None and bool(p.grad.any()) for p in e.parameters()) for e in vae.encoders] == [
            True, False, False,
        ]  # fmt: skip
        partners |= {
            k
            for k, decoder in enumerate(vae.decoders)
            if any(bool(p.grad.any()) for p in decoder.parameters() if p.grad is not None)
        }
        assert len(z_parts) == 3
    assert partners == {0, 1, 2}  # the first encoder has had every decoder
    vae.eval()
    by_hand = torch.stack([encoder(x_ng)[0] for encoder in vae.encoders]).mean(0)
    torch.testing.assert_close(vae.embed(x_ng), by_hand)
    decoded = torch.stack([decoder(by_hand) for decoder in vae.decoders]).mean(0)
    torch.testing.assert_close(vae(x_ng).x_hat_nf, decoded)
    # squared error is convex: the mean of the members is at least as good as they are on average
    alone = torch.stack([(decoder(by_hand) - x_ng).square().mean() for decoder in vae.decoders]).mean()
    assert (decoded - x_ng).square().mean() <= alone


def test_linear_special_case_is_exactly_linear() -> None:
    torch.manual_seed(0)
    vae = VAE(12, 3, [], norm="none", dropout=0.0, linear_skip=True).double().eval()
    x, y = torch.randn(2, 5, 12, dtype=torch.float64)
    mixed = vae.reconstruct(0.3 * x + 0.7 * y)
    torch.testing.assert_close(mixed, 0.3 * vae.reconstruct(x) + 0.7 * vae.reconstruct(y), rtol=0, atol=1e-12)
    # rank of the linear part: the number of latent dimensions
    jacobian = torch.autograd.functional.jacobian(lambda x: vae.reconstruct(x[None])[0], x[0])
    assert int(torch.linalg.matrix_rank(jacobian)) == 3


def test_state_survives_a_round_trip(vae: VAE) -> None:
    other = VAE(12, 3, [9, 6])
    other.load_state_dict(vae.state_dict())
    x_ng = torch.randn(8, 12)
    assert torch.equal(other.eval()(x_ng).x_hat_nf, vae.eval()(x_ng).x_hat_nf)
