from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtex_vae.analysis.metrics.imputation import hidden_batches, imputation_r2, key


def noisy(n: int = 300, g: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x_ng = random.normal(random.normal(size=g), random.uniform(0.5, 2, g), (n, g))
    return x_ng, x_ng + random.normal(0, 0.5, (n, g))


def test_imputation_counts_hidden_entries_only():
    x_ng, y_ng = noisy()
    hidden_ng = np.random.default_rng(1).random(x_ng.shape) < 0.3
    garbage_ng = np.where(hidden_ng, y_ng, 1e9)
    assert imputation_r2(x_ng, garbage_ng, hidden_ng) == imputation_r2(x_ng, y_ng, hidden_ng)
    error = ((x_ng - y_ng)[hidden_ng] ** 2).sum()
    assert imputation_r2(x_ng, y_ng, hidden_ng) == pytest.approx(1 - error / (x_ng[hidden_ng] ** 2).sum())
    assert imputation_r2(x_ng, x_ng, hidden_ng) == 1
    assert imputation_r2(x_ng, np.zeros_like(x_ng), hidden_ng) == 0
    assert np.isnan(imputation_r2(x_ng, y_ng, np.zeros_like(hidden_ng)))


@given(st.floats(0.02, 0.6), st.integers(0, 1000), st.integers(1, 70))
@settings(max_examples=20, deadline=None)
def test_masks_have_their_rate_and_ignore_the_batch_size(rate, seed, batch_size):
    n, g = 64, 500
    whole = np.vstack(list(hidden_batches(n, g, rate, seed=seed, batch_size=n)))
    parts = np.vstack(list(hidden_batches(n, g, rate, seed=seed, batch_size=batch_size)))
    np.testing.assert_array_equal(whole, parts)
    six_sigma = 6 * np.sqrt(rate * (1 - rate) / (n * g))
    assert abs(whole.mean() - rate) < six_sigma
    other = np.vstack(list(hidden_batches(n, g, rate, seed=seed + 1, batch_size=n)))
    assert (whole != other).any()
    assert len(np.unique(whole, axis=0)) == n


@pytest.mark.parametrize(("rate", "name"), [(0.05, "05"), (0.2, "20"), (0.5, "50"), (0.29, "29")])
def test_names_of_the_rates(rate, name):
    assert key(rate) == f"imputation/r2_{name}"
