"""Page of a sweep, a self-contained HTML file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtex_vae.analysis.metrics.catalogue import lower_is_better
from gtex_vae.analysis.report.html import CSS, embed, fill, script
from gtex_vae.runs.sweep import SEED

if TYPE_CHECKING:
    import pandas as pd

    from gtex_vae.runs.sweep import SweepRun

TEMPLATE = Path(__file__).with_name("sweep_template")
FIRST = ("reconstruction/r2", "contrastive/mrr", "val/r2")


def sweep_page(
    title: str,
    runs: Sequence[SweepRun],
    *,
    metric: str | None = None,
    stability: pd.DataFrame | None = None,
) -> str:
    """Make the page: parallel coordinates, main effects, agreement of seeds, and a table of runs.

    Parameters
    ----------
    title
        Title of the page.
    runs
        All runs of the sweep.
    metric
        Metric that is shown first and selects the best run.
    stability
        Result of `gtex_vae.analysis.evaluation.seed_stability.stability`.

    Returns
    -------
    str
        HTML.
    """
    metrics = metrics_of(runs)
    chosen = metric if metric in metrics else first_metric(metrics)
    keys = swept_keys(runs)
    data = {
        "keys": keys,
        "metrics": [{"name": name, "less": lower_is_better(name)} for name in metrics],
        "metric": chosen,
        "runs": [
            {
                "name": run.short,
                "folder": run.name,
                "status": run.status,
                "reason": run.reason,
                "values": {key: value_of(run.overrides.get(key)) for key in [*keys, SEED]},
                "metrics": {name: run.metrics.get(name) for name in metrics},
            }
            for run in runs
        ],
        "stability": [] if stability is None else stability.astype(object).where(stability.notna(), None).to_dict("records"),
    }  # fmt: skip
    parts = {
        "title": escape(title),
        "headline": escape(headline(runs, chosen)),
        "json": embed(data),
        "css": CSS.read_text(encoding="utf-8") + (TEMPLATE / "page.css").read_text(encoding="utf-8"),
        "js": script(TEMPLATE / "page.js"),
    }
    return fill((TEMPLATE / "page.html").read_text(encoding="utf-8"), parts)


def metrics_of(runs: Sequence[SweepRun]) -> list[str]:
    """List the metrics of all runs, the model's before the baselines'."""
    names = dict.fromkeys(name for run in runs for name, value in run.metrics.items() if value is not None)
    return sorted(names, key=lambda name: name.startswith("baseline/"))


def first_metric(metrics: Sequence[str]) -> str | None:
    """Choose the metric to show by default."""
    return next((name for name in (*FIRST, *metrics) if name in metrics), None)


def swept_keys(runs: Sequence[SweepRun]) -> list[str]:
    """List keys whose values differ between runs, except the seed."""
    keys = dict.fromkeys(key for run in runs for key in run.overrides)
    return [key for key in keys if key != SEED and len({run.overrides.get(key) for run in runs}) > 1]


def value_of(text: str | None) -> Any:
    """Convert an override to a number if possible.

    >>> value_of("64"), value_of("1e-3"), value_of("[512,64]"), value_of("true"), value_of(None)
    (64, 0.001, '[512,64]', 'true', None)
    """
    if text is None:
        return None
    if re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    return float(text) if re.fullmatch(r"[-+]?\d*\.?\d+([eE][-+]?\d+)?", text) else text


def best_run(runs: Sequence[SweepRun], metric: str | None) -> SweepRun | None:
    """Return the finished run with the best value of a metric."""
    scored = [
        (v, run)
        for run in runs
        if metric and (v := run.metrics.get(metric)) is not None and run.status == "finished"
    ]
    if not scored:
        return None
    pick = min if lower_is_better(str(metric)) else max
    return pick(scored, key=lambda pair: pair[0])[1]


def headline(runs: Sequence[SweepRun], metric: str | None) -> str:
    """Count the runs by status, and name the best."""
    counts = Counter(run.status for run in runs)
    states = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    text = f"{len(runs)} runs: {states}."
    best = best_run(runs, metric)
    if best is None:
        return text
    settings = " ".join(
        f"{key}={best.overrides[key]}" for key in [*swept_keys(runs), SEED] if key in best.overrides
    )
    return f"{text} Best by {metric}: {best.metrics[str(metric)]:.4f}, run {best.short}{f' ({settings})' if settings else ''}."
