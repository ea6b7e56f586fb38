"""Predictive intervals hold what was measured as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtex_vae.analysis.baselines import Mean
from gtex_vae.analysis.evaluation.predictions import PredictionCollector
from gtex_vae.analysis.evaluation.score import score_reconstruction
from gtex_vae.inference.intervals import LEVELS, PredictiveIntervals, conformal_quantiles, fit_of
from gtex_vae.inference.out_of_distribution import usual_residual

G = 40


class Factor:
    """Predicts every entry as the mean of the observed ones: right for data of one common factor."""

    def __init__(self) -> None:
        self.hidden: list[np.ndarray] = []

    def reconstruct(self, x_ng, observed_ng=None):
        if observed_ng is None:
            return np.repeat(x_ng.mean(1, keepdims=True), x_ng.shape[1], axis=1).astype(np.float32)
        self.hidden.append(~observed_ng)
        mean_n = np.where(observed_ng, x_ng, 0).sum(1) / observed_ng.sum(1)
        return np.repeat(mean_n[:, None], x_ng.shape[1], axis=1).astype(np.float32)


def samples(n: int, seed: int) -> np.ndarray:
    """One factor, noise that differs from gene to gene and from sample to sample, and is skewed."""
    rng = np.random.default_rng(seed)
    noise_ng = rng.gamma(2.0, 1.0, (n, G)) - 2.0
    scale_g, scale_n = np.linspace(0.2, 2.0, G), rng.lognormal(0, 0.5, n)
    return (rng.normal(size=(n, 1)) + scale_n[:, None] * scale_g * noise_ng).astype(np.float32)


@pytest.fixture(scope="module")
def calibrated() -> PredictiveIntervals:
    x_ng = samples(800, 0)
    residual_ng = x_ng - Factor().reconstruct(x_ng)
    return PredictiveIntervals.fit(Factor(), x_ng, residual_ng, usual_residual(residual_ng))


def test_coverage_is_nominal_over_all_by_gene_and_in_bad_samples(calibrated):
    x_ng = samples(4000, 1)
    predicted = PredictionCollector(x_ng.shape, {}, calibrated)
    score_reconstruction({"": Factor(), "baseline/mean/": Mean()}, x_ng, on_prediction=predicted)
    found = predicted.coverage.result()
    for kind in ("reconstruction", "imputation"):
        for level in LEVELS:
            assert found.metrics[f"{kind}/coverage_{round(100 * level)}"] == pytest.approx(level, abs=0.02)
    assert (found.genes["coverage_90"] - 0.9).abs().max() < 0.05
    worst = fit_of(x_ng - Factor().reconstruct(x_ng), calibrated.rms_g) > 2
    assert found.samples["imputation_coverage_90"][worst].mean() == pytest.approx(0.9, abs=0.04)
    # the mean over genes of equal weight is the mean over entries
    assert found.genes["coverage_80"].mean() == pytest.approx(found.metrics["reconstruction/coverage_80"])
    assert found.samples["coverage_80"].mean() == pytest.approx(found.metrics["reconstruction/coverage_80"])


def test_each_entry_is_hidden_once_a_fifth_at_a_time():
    x_ng = samples(30, 2)
    model = Factor()
    PredictiveIntervals.fit(model, x_ng, x_ng, np.ones(G))
    assert len(model.hidden) == 5
    assert (np.sum(model.hidden, axis=0) == 1).all()
    assert {int(hidden_ng.sum()) for hidden_ng in model.hidden} == {30 * G // 5}


def test_higher_levels_are_wider_and_missing_entries_change_nothing(calibrated):
    x_ng = samples(5, 3)
    observed_ng = np.random.default_rng(0).random(x_ng.shape) < 0.8
    x_hat_ng = Factor().reconstruct(x_ng, observed_ng)
    previous = None
    for level in LEVELS:
        low_ng, high_ng = calibrated.bounds(x_ng, x_hat_ng, level, observed_ng)
        assert (low_ng <= high_ng).all()
        if previous is not None:
            assert (low_ng <= previous[0]).all() and (high_ng >= previous[1]).all()
        previous = low_ng, high_ng
    other_ng = np.where(observed_ng, x_ng, 99).astype(np.float32)
    np.testing.assert_array_equal(calibrated.bounds(other_ng, x_hat_ng, 0.95, observed_ng)[0], previous[0])


@given(n=st.integers(1, 300), level=st.sampled_from(LEVELS))
def test_conformal_quantiles_are_the_ranks_of_the_theorem(n, level):
    quantile_qg = conformal_quantiles(np.random.default_rng(n).permutation(n)[:, None].astype(float))
    place = LEVELS.index(level)
    low, high = quantile_qg[place, 0], quantile_qg[place + len(LEVELS), 0]
    # of n + 1 equally likely ranks, those between the two are covered; too few samples give their range
    assert low == 0 or (high - low) / (n + 1) >= level - 1e-9
    assert low + high == n - 1
    tighter = (high - low - 2) / (n + 1)
    assert tighter < level


def test_a_model_without_knowledge_gets_honest_intervals():
    x_ng = np.random.default_rng(0).normal(size=(500, 10)).astype(np.float32)
    intervals = PredictiveIntervals.fit(Mean(), x_ng, x_ng, usual_residual(x_ng))
    low_ng, high_ng = intervals.bounds(x_ng, np.zeros_like(x_ng), 0.95)
    assert np.median(high_ng - low_ng) == pytest.approx(2 * 1.96, rel=0.15)
