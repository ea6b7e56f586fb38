"""The aligner: pooling, tuning, saving; and that what it learns is the donors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gtex_vae.errors import ConfigError, RunError
from gtex_vae.functional.contrastive_losses import similarity
from gtex_vae.models.aligner import Aligner
from gtex_vae.models.vae import VAE
from gtex_vae.nn.pooling import AttentionPool, mean_pool

TYPES = ["B", "T", "NK"]
G, D = 12, 4


def vae(**architecture: int) -> VAE:
    torch.manual_seed(0)
    return VAE(G, D, [6], **architecture).eval()


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_attention_starts_at_the_mean_and_ignores_what_is_not_there() -> None:
    torch.manual_seed(0)
    z, present = random(5, 3, D), torch.tensor([[True, True, False]] * 4 + [[False] * 3])
    pool = AttentionPool(D, 3)
    assert torch.allclose(pool(z, present), mean_pool(z, present), atol=1e-6)
    torch.nn.init.normal_(pool.query.weight)
    changed = z.clone()
    changed[:, 2] = 99.0
    assert torch.allclose(pool(z, present), pool(changed, present))
    assert pool(z, present)[4].abs().sum() == 0


@pytest.mark.parametrize("architecture", [{}, {"n_components": 5, "n_members": 3}, {"n_covariates": 2}])
@pytest.mark.parametrize("tune", ["none", "last", "all"])
def test_embedding_is_that_of_the_vae_before_tuning(tune: str, architecture: dict[str, int]) -> None:
    model, x = vae(**architecture), random(7, G)
    expected = model.embed(x)
    aligner = Aligner(model, TYPES, tune=tune).eval()
    assert torch.allclose(aligner.encoder(aligner.encoder.features(x)), expected, atol=1e-6)
    trained = {name for name, p in aligner.named_parameters() if p.requires_grad}
    assert not any(name.startswith("encoder.vae.") or "log_var" in name for name in trained)
    assert any(
        name.startswith(("encoder.means", "encoder.linear", "encoder.encoders")) for name in trained
    ) == (tune != "none")
    assert any(name.startswith("encoder.encoders.0.mlp") for name in trained) == (tune == "all")
    assert not any(
        part.training for part in aligner.train().modules() if isinstance(part, torch.nn.BatchNorm1d)
    )


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_pooling_does_not_depend_on_the_order_of_profiles(pooling: str) -> None:
    aligner = Aligner(vae(), TYPES, tune="none", pooling=pooling).eval()
    f, owner, kind = random(5, D), torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 2, 1, 0, 1])
    order = torch.tensor([4, 2, 0, 1, 3])
    pooled, present = aligner.pool(f, owner, kind, 3)
    again, _ = aligner.pool(f[order], owner[order], kind[order], 3)
    assert torch.allclose(pooled, again)
    assert torch.allclose(pooled[1], f[2], atol=1e-6)
    assert present.sum(1).tolist() == [2, 1, 2]


def test_a_donor_with_one_type_never_loses_it() -> None:
    torch.manual_seed(0)
    owner = torch.cat([torch.arange(40), torch.zeros(200, dtype=torch.long)])
    kept = Aligner(vae(), TYPES, drop_types=0.99).kept_types(owner, 40)
    assert kept[1:40].all()
    assert 0 < kept[40:].sum() < 20
    assert Aligner(vae(), TYPES, drop_types=0.0).kept_types(owner, 40).all()


def test_profiles_of_one_type_count_as_their_mean() -> None:
    aligner, z = Aligner(vae(), TYPES), random(4, D)
    owner, kind = torch.zeros(4, dtype=torch.long), torch.tensor([0, 0, 0, 2])
    pooled, present = aligner.pool(z, owner, kind, 1)
    assert torch.allclose(pooled[0], (z[:3].mean(0) + z[3]) / 2)
    assert present.tolist() == [[True, False, True]]


@pytest.mark.parametrize("loss", ["info_nce", "siglip", "sup_con", "vicreg"])
def test_every_loss_prefers_the_right_donors(loss: str) -> None:
    aligner = Aligner(vae(), TYPES, loss=loss)
    v = 3.0 * random(8, D)
    owner = torch.arange(8).repeat(2)
    u = v[owner] + 0.1 * random(16, D, seed=1)
    right = aligner.loss(u, v, owner)
    wrong = aligner.loss(u, v, owner.roll(3))
    assert torch.isfinite(right)
    assert right < wrong


def test_residual_head_adds_nothing_at_first_and_wants_the_right_width() -> None:
    aligner = Aligner(vae(), TYPES, tune="none", head=[8, D], residual=True).eval()
    f = random(6, D)
    assert torch.allclose(aligner.project_donors(f), f)
    with pytest.raises(ConfigError, match="must end in"):
        Aligner(vae(), TYPES, head=[8, D + 1], residual=True)


def test_units_change_neither_the_embedding_nor_the_saved_model() -> None:
    model, x = vae(), random(20, G) * torch.linspace(0.1, 3.0, G)
    x[:, 0] = 0.0
    expected = model.embed(x)
    aligner = Aligner(model, TYPES, tune="last").eval()
    assert aligner.encoder.linear is not None
    before = aligner.encoder.linear.weight.clone()
    aligner.encoder.fit_units(x)
    features = aligner.encoder.features(x)
    assert torch.allclose(features[:, -G + 1 :].std(0, correction=0), torch.ones(G - 1), atol=1e-5)
    assert torch.allclose(aligner.encoder(features), expected, atol=1e-5)
    aligner.encoder.fold_units()
    assert torch.allclose(aligner.encoder.linear.weight, before)
    assert torch.allclose(aligner.encoder(aligner.encoder.features(x)), expected, atol=1e-5)


@pytest.mark.parametrize("tune", ["none", "last", "all"])
def test_the_path_starts_beside_the_embedding_and_survives_folding(tune: str) -> None:
    model, x = vae(), random(20, G)
    expected = model.embed(x)
    aligner = Aligner(model, TYPES, tune=tune, path=5).eval()
    aligner.encoder.fit_units(x)
    before = aligner.encoder(aligner.encoder.features(x))
    assert torch.allclose(before[:, :D], expected, atol=1e-5)
    assert before.shape == (20, D + 5)
    aligner.encoder.fold_units()
    assert torch.allclose(aligner.encoder(aligner.encoder.features(x)), before, atol=1e-5)


def test_the_path_starts_where_both_sides_agree_whatever_their_units(tmp_path: Path) -> None:
    donors, bias = random(40, G), random(40, 1, seed=1) * torch.ones(G)
    x, y = donors + bias, 0.5 * donors  # what all genes of a sample share is noise
    x[:, -2:], y[:, -2:] = 1.5, 1.5  # two genes were not measured
    x[:, 0] *= 10.0
    aligner = Aligner(vae(), TYPES, tune="none", path=G).eval()
    encoder, owner = aligner.encoder, torch.arange(40)
    encoder.fit_units(x[:20])
    encoder.fit_path(x[:20], y[:20], owner[:20], torch.zeros(20, dtype=torch.long))

    def found() -> float:
        path = [encoder(encoder.features(side), cells=side is y)[:, D:] for side in (x, y)]
        nearness = similarity(*(side - side[:20].mean(0) for side in path))[20:, 20:]
        return float((nearness.argmax(1) == torch.arange(20)).float().mean())

    start = found()
    raw = [(side - side[:20].mean(0))[:, :-2] / side[:20].std(0)[:-2] for side in (x, y)]
    by_raw = float((similarity(*raw)[20:, 20:].argmax(1) == torch.arange(20)).float().mean())
    assert start > by_raw + 0.1
    encoder.fold_units()
    aligner.save(tmp_path, {"tune": "none", "path": G})
    encoder = Aligner.load(tmp_path, aligner.encoder.vae).encoder
    assert found() == start


def test_save_and_load(tmp_path: Path) -> None:
    model = vae()
    arguments = {"tune": "last", "head": [8, 3], "residual": False, "pooling": "attention"}
    aligner = Aligner(model, TYPES, **arguments).eval()
    aligner.donor_center_d.copy_(random(D))
    aligner.save(tmp_path / "alignment", arguments)
    again = Aligner.load(tmp_path / "alignment", model)
    f = aligner.encoder(aligner.encoder.features(random(5, G)))
    assert again.cell_types == TYPES
    assert torch.equal(again.project_donors(f), aligner.project_donors(f))
    with pytest.raises(RunError, match="no readable alignment"):
        Aligner.load(tmp_path, model)


def test_centers_take_off_what_the_sides_differ_in() -> None:
    aligner = Aligner(vae(), TYPES, tune="none", head=[]).eval()
    z = random(30, D)
    aligner.fit_centers(z + 7.0, z - 3.0)
    owner, kind = torch.arange(30), torch.zeros(30, dtype=torch.long)
    u, v = aligner.project_donors(z + 7.0), aligner.project_cells(z - 3.0, owner, kind, 30)
    assert torch.allclose(u, v, atol=1e-5)
    assert float(u.detach().square().mean()) == pytest.approx(1.0, rel=1e-4)
    assert torch.isfinite(aligner.scale_d).all()
