"""Contrastive terms beside the ELBO: what they see, what they leave alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from gtex_vae.errors import ConfigError, DataError
from gtex_vae.functional import contrastive_losses as losses
from gtex_vae.models.contrastive import ContrastiveTerm, LabelContrast, ViewContrast
from gtex_vae.models.vae import VAE

N, G, D = 12, 20, 4


@pytest.fixture
def vae() -> VAE:
    torch.manual_seed(0)
    return VAE(G, D, [8])


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(N, G, generator=torch.Generator().manual_seed(1))


def obs() -> pd.DataFrame:
    return pd.DataFrame({"tissue": ["a", "b", None] * 4, "donor": np.repeat(list("uvwx"), 3)})


def test_views_leave_running_statistics_as_they_are(vae: VAE, x: torch.Tensor) -> None:
    term, encoder = ViewContrast(D), vae.train().encoders[0]
    mu = encoder(x)[0]
    before = {name: value.clone() for name, value in encoder.named_buffers() if "num_batches" not in name}
    term(vae, x, mu, torch.arange(N)).backward()
    after = dict(encoder.named_buffers())
    assert before
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert encoder.mu.weight.grad is not None
    assert encoder.mu.weight.grad.abs().sum() > 0


def test_equal_views_are_found_and_vicreg_needs_no_negatives(vae: VAE, x: torch.Tensor) -> None:
    mu = vae.eval().embed(x)
    same = ViewContrast(D, hidden=0.0, noise=0.0, projection=(), temperature=0.02)
    other = ViewContrast(D, hidden=0.9, noise=2.0, projection=(), temperature=0.02)
    torch.manual_seed(0)
    rows = torch.arange(N)
    assert same(vae, x, mu, rows) < other(vae, x, mu, rows)
    alone = ViewContrast(D, hidden=0.0, noise=0.0, projection=(), loss="vicreg")
    assert torch.isclose(alone(vae, x, mu, rows), losses.vicreg(mu, mu))


@pytest.mark.parametrize("geometry", ["cosine", "euclidean"])
def test_labels_are_those_of_the_rows(vae: VAE, x: torch.Tensor, geometry: str) -> None:
    term = LabelContrast(D, geometry=geometry)
    term.look_up(obs())
    tissue = torch.tensor([0, 1, -1] * 4)
    mu = 5.0 * torch.nn.functional.one_hot(tissue + 1, D).float()
    rows = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    apart = term(vae, x, mu[rows], rows)
    mixed = term(vae, x, mu[rows.roll(1)], rows)
    assert apart < mixed
    assert not any("label" in name or "donor" in name for name in term.state_dict())


def test_refusals() -> None:
    with pytest.raises(ConfigError, match=r"contrastive\.weight=-1"):
        ViewContrast(D, weight=-1.0)
    with pytest.raises(ConfigError, match="temperature"):
        LabelContrast(D, temperature=0.0)
    with pytest.raises(ConfigError, match="hidden=1"):
        ViewContrast(D, hidden=1.0)
    with pytest.raises(DataError, match=r"label=organ.*tissue, donor"):
        LabelContrast(D, label="organ").look_up(obs())
    for tissue in ("a", None, np.arange(N)):  # one for all, none known, no two alike
        with pytest.raises(DataError, match=r"label=tissue: needs at least two labels"):
            LabelContrast(D).look_up(obs().assign(tissue=tissue))


def test_temperature_is_learned_only_when_asked() -> None:
    def learned(term: ContrastiveTerm) -> bool:
        return term.log_scale.requires_grad

    assert learned(LabelContrast(D, learn_temperature=True))
    assert not learned(LabelContrast(D))
