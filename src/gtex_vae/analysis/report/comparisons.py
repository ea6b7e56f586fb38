"""Comparisons of the model with its baselines, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gtex_vae.analysis.metrics.bootstrap import Interval
from gtex_vae.analysis.metrics.catalogue import BASELINES, HEADLINE, PCA, label, lower_is_better

# metric and baseline, "" for the model's own value
Intervals = Mapping[tuple[str, str], Interval]
COMPARED = {
    prefix: name for prefix, name in BASELINES.items() if prefix != "baseline/mean"
}  # too easy to beat


class Comparison(NamedTuple):
    """A sentence on one metric and baseline; ``tone`` is ``better``, ``worse`` or ``open``."""

    tone: str
    text: str


def tone(metric: str, low: float, high: float) -> str:
    """Classify the interval of model minus baseline: ``better`` or ``worse`` if it excludes zero, else ``open``.

    >>> tone("reconstruction/r2", 0.01, 0.03), tone("reconstruction/mse", 0.01, 0.03), tone("tissue/knn_accuracy", -1, 1)
    ('better', 'worse', 'open')
    """
    if not (low > 0 or high < 0):  # also if the bounds are NaN
        return "open"
    return "better" if (low > 0) != lower_is_better(metric) else "worse"


def compare(intervals: Intervals) -> list[Comparison]:
    """Compare the model with each baseline on the headline metrics.

    Parameters
    ----------
    intervals
        Of the model's metrics and of its differences from the baselines.

    Returns
    -------
    list of Comparison
        Against PCA first.
    """
    verbs = {"better": "beats", "worse": "is worse than", "open": "does not differ from"}
    found = []
    for baseline, name in COMPARED.items():
        for metric in HEADLINE:
            if (metric, baseline) not in intervals:
                continue
            value, low, high = intervals[metric, baseline]
            own, kind = intervals[metric, ""].value, tone(metric, low, high)
            found.append(
                Comparison(
                    kind,
                    f"{label(metric)}: the model {verbs[kind]} {name}, {own:.3f} against {own - value:.3f} "
                    f"(difference {value:+.3f}, 95 % interval {low:+.3f} to {high:+.3f})",
                )
            )
    return found


def headline(intervals: Intervals) -> str:
    """Count the headline metrics in which the model beats PCA, in one sentence."""
    paired = {metric: intervals[metric, PCA] for metric in HEADLINE if (metric, PCA) in intervals}
    tones = [tone(metric, found.low, found.high) for metric, found in paired.items()]
    better, worse = tones.count("better"), tones.count("worse")
    return (
        f"On held-out donors, the model is better than a PCA with as many components in {better} of {len(tones)} "
        f"main metrics, worse in {worse}, and in {len(tones) - better - worse} the difference is within chance."
    )


def behind_without_intervals(metrics: Mapping[str, float | None], intervals: Intervals) -> str:
    """Name the metrics without an interval in which the PCA is ahead; empty if there are none.

    >>> behind_without_intervals({"cluster/ari": 0.4, "baseline/pca/cluster/ari": 0.5}, {})
    'PCA is ahead in these metrics, which have no interval: ARI of k-means with tissues 0.500 against 0.400.'
    """
    behind = []
    for key, ours in metrics.items():
        pca = metrics.get(f"{PCA}/{key}")
        if ours is None or pca is None or (key, PCA) in intervals:
            continue
        if (pca < ours) if lower_is_better(key) else (pca > ours):
            behind.append(f"{label(key)} {pca:.3f} against {ours:.3f}")
    return f"PCA is ahead in these metrics, which have no interval: {', '.join(behind)}." if behind else ""
