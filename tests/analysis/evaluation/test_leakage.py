from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gtex_vae.analysis.evaluation.leakage import audit
from gtex_vae.data.standardize import Standardizer


@pytest.fixture
def cohort() -> tuple[np.ndarray, pd.DataFrame, Standardizer]:
    """Thirty samples of ten donors, a clean split, and its scaler."""
    x_ng = np.random.default_rng(0).normal(5, 1, (30, 80)).astype(np.float32)
    donor = [f"d{i // 3}" for i in range(30)]
    obs = pd.DataFrame(
        {"donor": donor, "split": ["train"] * 18 + ["val"] * 6 + ["test"] * 6},
        index=[f"s{i}" for i in range(30)],
    )
    return x_ng, obs, Standardizer(80).fit(x_ng, np.arange(18))


def test_audit_passes_a_clean_split(cohort):
    checks, pairs = audit(*cohort)
    assert checks["passed"].all()
    assert pairs.empty


def test_audit_sees_a_donor_in_two_splits(cohort):
    x_ng, obs, scaler = cohort
    obs.loc["s29", "donor"] = "d0"
    checks, _ = audit(x_ng, obs, scaler)
    assert checks["passed"].tolist() == [False, True, True]


def test_audit_sees_a_scaler_fitted_on_everything(cohort):
    x_ng, obs, _ = cohort
    checks, _ = audit(x_ng, obs, Standardizer(80).fit(x_ng))
    assert checks["passed"].tolist() == [True, False, True]


def test_audit_sees_a_sample_filed_twice_under_another_donor(cohort):
    x_ng, obs, scaler = cohort
    x_ng[29] = x_ng[0] + 1e-3
    checks, pairs = audit(x_ng, obs, scaler)
    assert checks["passed"].tolist() == [True, True, False]
    (pair,) = pairs.to_dict("records")
    assert {pair["sample"], pair["other"]} == {"s0", "s29"}
    assert {pair["split"], pair["other_split"]} == {"train", "test"}
    assert not pair["same_donor"]
