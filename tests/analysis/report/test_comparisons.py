from __future__ import annotations

from gtex_vae.analysis.metrics.bootstrap import Interval
from gtex_vae.analysis.report.comparisons import compare, headline

INTERVALS = {
    ("reconstruction/r2", ""): Interval(0.8, 0.7, 0.9),
    ("reconstruction/r2", "baseline/pca"): Interval(0.02, 0.01, 0.03),
    ("tissue/knn_accuracy", ""): Interval(0.8, 0.7, 0.9),
    ("tissue/knn_accuracy", "baseline/pca"): Interval(-0.02, -0.03, -0.01),
    ("tissue/logreg_accuracy", ""): Interval(0.8, 0.7, 0.9),
    ("tissue/logreg_accuracy", "baseline/pca"): Interval(0.02, -0.01, 0.05),
}


def test_verdicts_follow_the_intervals():
    assert [found.tone for found in compare(INTERVALS)] == ["better", "worse", "open"]
    assert "0.800 against 0.780" in compare(INTERVALS)[0].text
    assert "in 1 of 3 main metrics, worse in 1, and in 1" in headline(INTERVALS)
