"""What the intervals say, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gtex_vae.analysis.metrics.bootstrap import Interval

LABELS = {
    "reconstruction/r2": "reconstruction R2",
    "reconstruction/mse": "reconstruction MSE",
    "reconstruction/mae": "reconstruction MAE",
    "reconstruction/gene_r2_median": "median gene R2",
    "reconstruction/gene_pearson_median": "median gene Pearson correlation",
    "imputation/r2_05": "imputation R2, 5 % hidden",
    "imputation/r2_20": "imputation R2, 20 % hidden",
    "imputation/r2_50": "imputation R2, 50 % hidden",
    "tissue/knn_accuracy": "tissue by 15 nearest neighbours",
    "tissue/logreg_accuracy": "tissue by logistic regression",
}
BASELINES = {
    "baseline/pca": "PCA of as many components",
    "baseline/mean": "the training mean",
    "baseline/tissue_mean": "the tissue's mean",
    "baseline/knn": "nearest training samples",
}
MAIN = ("reconstruction/r2", "imputation/r2_20", "tissue/knn_accuracy", "tissue/logreg_accuracy")
LESS_IS_BETTER = ("reconstruction/mse", "reconstruction/mae")

# metric and baseline, "" for the model's own value
Intervals = Mapping[tuple[str, str], Interval]


class Verdict(NamedTuple):
    """One comparison; ``tone`` is ``better``, ``worse`` or ``open``."""

    tone: str
    text: str


def tone(metric: str, low: float, high: float) -> str:
    """Whether an interval of model minus baseline lies on one side of zero, and on which.

    >>> tone("reconstruction/r2", 0.01, 0.03), tone("reconstruction/mse", 0.01, 0.03), tone("tissue/knn_accuracy", -1, 1)
    ('better', 'worse', 'open')
    """
    if not (low > 0 or high < 0):  # undefined bounds leave it open too
        return "open"
    return "better" if (low > 0) != (metric in LESS_IS_BETTER) else "worse"


def verdicts(intervals: Intervals) -> list[Verdict]:
    """Compare the model with each baseline on the main metrics.

    Parameters
    ----------
    intervals
        Of the model's metrics and of its differences from the baselines.

    Returns
    -------
    list of Verdict
        Against PCA first.
    """
    words = {"better": "beats", "worse": "falls behind", "open": "cannot be told from"}
    found = []
    for baseline, name in BASELINES.items():
        if baseline == "baseline/mean":
            continue  # beating it says next to nothing
        for metric in MAIN:
            if (metric, baseline) not in intervals:
                continue
            value, low, high = intervals[metric, baseline]
            own = intervals[metric, ""].value
            judged = tone(metric, low, high)
            found.append(
                Verdict(
                    judged,
                    f"{LABELS[metric]}: the model {words[judged]} {name}, {own:.3f} against {own - value:.3f} "
                    f"(difference {value:+.3f}, 95 % interval {low:+.3f} to {high:+.3f})",
                )
            )
    return found


def headline(intervals: Intervals) -> str:
    """One sentence: in how many of the main metrics the model beats PCA."""
    paired = {
        metric: intervals[metric, "baseline/pca"] for metric in MAIN if (metric, "baseline/pca") in intervals
    }
    tones = [tone(metric, found.low, found.high) for metric, found in paired.items()]
    better, worse = tones.count("better"), tones.count("worse")
    return (
        f"On donors it never saw, the model is better than a PCA of as many components in {better} of {len(tones)} "
        f"main figures, worse in {worse}, and in {len(tones) - better - worse} the difference is within chance."
    )


def without_intervals(metrics: Mapping[str, float | None], intervals: Intervals) -> str:
    """Name the figures that have no interval and in which the PCA is ahead; empty where there are none.

    >>> without_intervals({"cluster/ari": 0.4, "baseline/pca/cluster/ari": 0.5}, {})
    'Without an interval, and higher for the PCA: cluster/ari 0.500 against 0.400.'
    """
    behind = []
    for key, ours in metrics.items():
        pca = metrics.get(f"baseline/pca/{key}")
        if ours is not None and pca is not None and pca > ours and (key, "baseline/pca") not in intervals:
            behind.append(f"{LABELS.get(key, key)} {pca:.3f} against {ours:.3f}")
    return f"Without an interval, and higher for the PCA: {', '.join(behind)}." if behind else ""
