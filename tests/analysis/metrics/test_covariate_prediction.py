from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gtex_vae.analysis.metrics.covariate_prediction import predictability
from gtex_vae.data.covariates import as_number


@pytest.fixture(scope="module")
def cohort() -> tuple[np.ndarray, pd.DataFrame]:
    """Latent with information on tissue, sex and ischemic time, but not on age or noise."""
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
    # within a tissue, the SD of time is 200 and that of the latent's error 0.3 * 200
    assert table.loc["ischemic_time", "latent"] > 0.95
    assert 0.6 < table.loc["ischemic_time", "tissue"] < 0.85
    assert table.loc["coin", "latent"] == pytest.approx(0.5, abs=0.08)
    assert table.loc["coin", "chance"] >= 0.5


def test_no_donor_is_in_training_and_test(cohort):
    _, obs = cohort
    # the latent identifies the donor, so age is predictable only for donors in training
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
