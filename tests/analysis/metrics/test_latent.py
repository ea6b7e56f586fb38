from __future__ import annotations

import numpy as np
import pytest

from gtex_vae.analysis.metrics.latent import (
    active_units,
    effective_rank,
    kl_per_dimension,
    latent_correlations,
)


def rotation(d: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def test_effective_rank_counts_even_dimensions_and_ignores_rotation_and_scale():
    even_nd = np.linalg.qr(np.random.default_rng(0).normal(size=(200, 6)) - 0.0)[0]
    even_nd -= even_nd.mean(0)
    padded_nd = np.hstack([even_nd, np.zeros((200, 4))])
    assert effective_rank(padded_nd) == pytest.approx(6, rel=0.01)
    turned = effective_rank(17 * padded_nd @ rotation(10) + 3)
    assert turned == pytest.approx(effective_rank(padded_nd))
    assert effective_rank(np.outer(np.arange(9.0), np.ones(4))) == pytest.approx(1)
    assert np.isnan(effective_rank(np.zeros((5, 3))))


def test_correlations_agree_with_numpy_and_bear_a_collapsed_dimension():
    mu_nd = np.random.default_rng(1).normal(size=(300, 5)) @ rotation(5) * [1, 2, 3, 4, 5] + 7
    np.testing.assert_allclose(latent_correlations(mu_nd), np.corrcoef(mu_nd.T), atol=1e-12)
    mu_nd[:, 2] = 0.1
    found = latent_correlations(mu_nd)
    assert (found[2, [0, 1, 3, 4]] == 0).all()
    assert found[2, 2] == 1


def test_active_units_counts_dimensions_above_the_threshold():
    random = np.random.default_rng(6)
    scales = np.array([0, 0.05, 0.09, 0.11, 1, 3])
    mu_nd = random.normal(100, 1, (4000, 6))
    mu_nd = (mu_nd - mu_nd.mean(0)) / mu_nd.std(0) * scales + 100
    assert active_units(mu_nd) == 3
    assert active_units(mu_nd, threshold=0.002) == 5


def test_kl_agrees_with_torch():
    import torch
    from torch.distributions import Normal, kl_divergence

    random = np.random.default_rng(7)
    mu_nd, logvar_nd = random.normal(size=(50, 8)), random.normal(size=(50, 8))
    posterior = Normal(torch.tensor(mu_nd), torch.tensor(np.exp(logvar_nd / 2)))
    expected = kl_divergence(posterior, Normal(0.0, 1.0)).mean(0).numpy()
    np.testing.assert_allclose(kl_per_dimension(mu_nd, logvar_nd), expected, rtol=1e-10)
    assert (kl_per_dimension(np.zeros((3, 2)), np.zeros((3, 2))) == 0).all()
