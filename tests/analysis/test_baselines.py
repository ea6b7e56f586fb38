from __future__ import annotations

import numpy as np
import pytest

from gtex_vae.analysis import baselines
from gtex_vae.analysis.baselines import NearestProfiles


def samples(n: int = 60, g: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, g)).astype(np.float32)


@pytest.mark.parametrize("profiles_at_a_time", [7, 1000])
def test_imputation_agrees_with_sklearn(profiles_at_a_time, monkeypatch):
    from sklearn.impute import KNNImputer

    monkeypatch.setattr(baselines, "PROFILES_AT_A_TIME", profiles_at_a_time)
    x_ng, new_ng = samples(), samples(20, seed=1)
    observed_ng = np.random.default_rng(2).random(new_ng.shape) > 0.3
    found_ng = NearestProfiles.neighbours(x_ng, 4).reconstruct(new_ng, observed_ng)
    imputer = KNNImputer(n_neighbors=4).fit(x_ng)
    expected_ng = imputer.transform(np.where(observed_ng, new_ng, np.nan))
    np.testing.assert_allclose(found_ng[~observed_ng], expected_ng[~observed_ng], atol=1e-5)


def test_hidden_entries_are_ignored():
    stored = NearestProfiles.neighbours(samples(), 3)
    new_ng = samples(10, seed=1)
    observed_ng = np.random.default_rng(2).random(new_ng.shape) > 0.5
    garbage_ng = np.where(observed_ng, new_ng, np.float32(1e6))
    np.testing.assert_array_equal(
        stored.reconstruct(garbage_ng, observed_ng), stored.reconstruct(new_ng, observed_ng)
    )


def test_stored_samples_are_their_own_nearest():
    x_ng = samples()
    np.testing.assert_array_equal(NearestProfiles.neighbours(x_ng, 1).reconstruct(x_ng), x_ng)
    everything = NearestProfiles.neighbours(x_ng, 1000).reconstruct(x_ng)
    np.testing.assert_allclose(everything, np.broadcast_to(x_ng.mean(0), x_ng.shape), atol=1e-5)


def test_tissue_means_are_means_of_the_labelled():
    x_ng = samples(90)
    labels = np.array(["a", "b", None] * 30, dtype=object)
    stored = NearestProfiles.tissue_means(x_ng, labels)
    expected = [x_ng[labels == name].mean(0) for name in ("a", "b")]
    np.testing.assert_allclose(stored.profiles_mg, expected, atol=1e-6)
    np.testing.assert_array_equal(
        stored.reconstruct(stored.profiles_mg[::-1] * 1.01), stored.profiles_mg[::-1]
    )
