from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gtex_vae.analysis.metrics.covariate_prediction import predictability
from gtex_vae.analysis.metrics.disentanglement import dci, mutual_information, mutual_information_gap
from gtex_vae.analysis.metrics.latent import effective_rank, latent_correlations
from gtex_vae.data.covariates import as_number


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


@pytest.fixture(scope="module")
def cohort() -> tuple[np.ndarray, pd.DataFrame]:
    """A latent that holds the tissue, the sex and the ischemic time, but neither age nor noise."""
    random = np.random.default_rng(2)
    n = 900
    donor_n = random.integers(120, size=n)
    tissue_n = random.integers(4, size=n)
    age_donor, sex_donor = random.choice([24.5, 44.5, 64.5], 120), random.integers(2, size=120)
    ischemia_n = 300 * tissue_n + random.normal(0, 200, n)
    z_nd = random.normal(0, 0.3, (n, 8))
    z_nd[np.arange(n), tissue_n] += 3
    z_nd[:, 5] += 2 * sex_donor[donor_n]
    z_nd[:, 6] += ischemia_n / 200
    obs = pd.DataFrame(
        {
            "donor": donor_n.astype(str),
            "tissue": pd.Categorical(tissue_n.astype(str)),
            "sex": np.where(sex_donor[donor_n] == 1, "M", "F"),
            "age": [f"{age - 4.5:.0f}-{age + 4.5:.0f}" for age in age_donor[donor_n]],
            "ischemic_time": ischemia_n,
            "constant": "same",
            "coin": random.integers(2, size=n),
        }
    )
    obs.loc[::10, "ischemic_time"] = np.nan
    return z_nd, obs


def test_predictability_tells_what_the_latent_knows_beyond_the_tissue(cohort):
    z_nd, obs = cohort
    names = ["tissue", "sex", "age", "ischemic_time", "constant", "coin", "absent"]
    table = predictability(z_nd, obs, names)
    assert list(table.index) == ["tissue", "sex", "age", "ischemic_time", "coin"]
    assert table["measure"].to_dict() == {
        "tissue": "accuracy",
        "sex": "accuracy",
        "age": "r2",
        "ischemic_time": "r2",
        "coin": "accuracy",
    }
    assert table.loc["tissue", "latent"] > 0.99
    assert np.isnan(table.loc["tissue", "tissue"])
    assert table.loc["sex", "latent"] > 0.95 > table.loc["sex", "tissue"]
    assert abs(table.loc["age", "latent"]) < 0.1
    assert table.loc["ischemic_time", "samples"] == 810
    # within a tissue the time varies by 200 and the latent tells it to 0.3 * 200
    assert table.loc["ischemic_time", "latent"] > 0.95
    assert 0.6 < table.loc["ischemic_time", "tissue"] < 0.85
    assert table.loc["coin", "latent"] == pytest.approx(0.5, abs=0.08)
    assert table.loc["coin", "chance"] >= 0.5


def test_no_donor_is_in_training_and_test(cohort):
    _, obs = cohort
    # the latent names the donor outright: age follows from it only where the donor was seen
    z_nd = np.eye(120)[obs["donor"].astype(int)]
    table = predictability(z_nd, obs, ["age", "donor"])
    assert table.loc["age", "latent"] < 0.05
    assert table.loc["donor", "latent"] > 0.95
    assert table.loc["donor", "tissue"] < 0.1


def test_predictability_is_seeded(cohort):
    z_nd, obs = cohort
    first = predictability(z_nd, obs, ["sex", "age"], seed=1)
    pd.testing.assert_frame_equal(first, predictability(z_nd, obs, ["sex", "age"], seed=1))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["20-29", None, "70 - 79"], [24.5, np.nan, 74.5]),
        (["20-29", "young"], ["20-29", "young"]),
        ([True, False, None], ["True", "False", None]),
        (list(range(11)), [float(i) for i in range(11)]),
        ([0.0, 1.0, np.nan], ["0.0", "1.0", None]),
        ([None, None], [None, None]),
    ],
)
def test_quantities_and_classes(values, expected):
    found = as_number(pd.Series(values))
    assert list(found.isna()) == [value is None or value != value for value in expected]
    assert [v for v in found if not pd.isna(v)] == [v for v in expected if not pd.isna(v)]


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
