from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gtex_vae.analysis.metrics.disentanglement import dci, mutual_information, mutual_information_gap


def rotation(d: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def independent(n: int = 3000, d: int = 4, seed: int = 3) -> tuple[np.ndarray, pd.DataFrame]:
    random = np.random.default_rng(seed)
    factors = pd.DataFrame({f"factor {i}": random.normal(size=n) for i in range(d)})
    factors["factor 0"] = random.integers(3, size=n).astype(str)
    first = factors["factor 0"].astype(float) + random.normal(0, 1e-3, n)
    return np.column_stack([first, factors.iloc[:, 1:]]), factors


def test_one_dimension_a_factor_is_disentangled_and_a_rotation_of_it_is_not():
    z_nd, factors = independent()
    aligned = dci(z_nd[:1000], factors[:1000])
    assert min(aligned.values()) > 0.9
    assert mutual_information_gap(z_nd, factors) > 0.9
    z_nd = (z_nd - z_nd.mean(0)) / z_nd.std(0)
    mixed_nd = z_nd @ rotation(4)
    mixed = dci(mixed_nd[:1000], factors[:1000])
    assert mixed["latent/dci_disentanglement"] < 0.65
    assert mixed["latent/dci_completeness"] < 0.65
    assert mutual_information_gap(mixed_nd, factors) < 0.4


def test_two_dimensions_for_every_factor_are_disentangled_but_not_complete():
    z_nd, factors = independent(1000)
    doubled = dci(np.hstack([z_nd, z_nd]), factors)
    assert doubled["latent/dci_disentanglement"] > 0.9
    assert doubled["latent/dci_completeness"] == pytest.approx(1 - np.log(2) / np.log(8), abs=0.1)
    assert mutual_information_gap(np.hstack([z_nd, z_nd]), factors) == pytest.approx(0, abs=1e-9)


def test_mutual_information_closed_forms():
    z_nd, factors = independent(20_000)
    table = mutual_information(z_nd, factors, bins=30)
    assert table.shape == (4, 4)
    assert np.log(3) - 0.05 < table.loc[0, "factor 0"] < np.log(3)
    assert table.loc[1, "factor 1"] == pytest.approx(np.log(30))
    assert table.loc[1, "factor 2"] < 0.03
    pair = np.random.default_rng(4).multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 20_000)
    found = mutual_information(pair[:, :1], pd.DataFrame({"other": pair[:, 1]})).loc[0, "other"]
    assert found == pytest.approx(-0.5 * np.log(1 - 0.8**2), abs=0.04)


def test_shuffling_takes_off_the_information_that_many_classes_have_by_chance():
    random = np.random.default_rng(5)
    donors = pd.DataFrame({"donor": random.integers(300, size=4000).astype(str)})
    z_nd = random.normal(size=(4000, 3))
    assert mutual_information(z_nd, donors)["donor"].min() > 0.5
    assert mutual_information(z_nd, donors, seed=0)["donor"].max() < 0.05


def test_missing_factors_do_not_count():
    z_nd, factors = independent(2000)
    holes = factors.copy()
    holes.loc[::2, ["factor 0", "factor 1"]] = None
    table = mutual_information(z_nd, holes)
    assert table.loc[0, "factor 0"] == pytest.approx(
        mutual_information(z_nd, factors).loc[0, "factor 0"], abs=0.03
    )
    assert table.loc[1, "factor 1"] > 2
    assert table.loc[[0, 2, 3], "factor 1"].max() < 0.3
