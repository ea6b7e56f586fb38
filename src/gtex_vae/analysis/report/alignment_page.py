"""Report of an alignment as a self-contained HTML file."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from gtex_vae.analysis.alignment.run import evaluate_alignment
from gtex_vae.analysis.metrics.catalogue import SETTINGS, label
from gtex_vae.analysis.report import alignment_figures as drawn
from gtex_vae.analysis.report.alignment_figures import METHODS, Metrics
from gtex_vae.analysis.report.comparisons import Intervals, tone
from gtex_vae.analysis.report.figures import write_figure
from gtex_vae.analysis.report.html import CSS, MARK, Html, fill, html_table, image, provenance_table
from gtex_vae.analysis.report.report_data import read_curves, read_intervals
from gtex_vae.files import write_text

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page_template" / "alignment.html"
COLUMNS = {key: label(f"contrastive/{key}") for key in ("top1", "top5", "mrr", "median_rank", "foscttm")}
CHANCE = {"foscttm": 0.5}
WORST_SHOWN = 15
ALTS = {
    "top1": "Top-1 of every method, among all donors and controlled for composition, with chance",
    "found_within": "Fraction of donors whose partner is among the k nearest, by method",
    "learning_curves": "Loss and validation retrieval over training",
}


def write_report(run: Path, *, seed: int = 0) -> Path:
    """Write ``analysis/report.html`` and its figures into an alignment run; evaluate the run first if needed.

    Parameters
    ----------
    run
        A finished alignment run.
    seed
        Seed of that evaluation.

    Returns
    -------
    Path
        Path of the page.
    """
    if not (run / "evaluation" / "metrics.json").exists():
        log.info("measuring %s on held-out donors first", run)
        evaluate_alignment(run, seed=seed)
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    intervals = read_intervals(run / "evaluation" / "intervals.csv")
    ranks = pd.read_csv(run / "evaluation" / "retrieval.csv", dtype={"donor": str})
    folder = run / "analysis"
    curves = read_curves(run / "tensorboard", drawn.CURVES)
    figures = {"top1": drawn.top1_bars(metrics), "found_within": drawn.found_within(ranks)}
    if curves:
        figures["learning_curves"] = drawn.learning_curves(curves)
    svg = {name: write_figure(folder / "figures" / name, figure) for name, figure in figures.items()}
    parts = {
        "title": escape(f"alignment: {run.name}"),
        "summary": summary(metrics, intervals, len(ranks)),
        "composition": composition(metrics, intervals),
        "worst": _worst(ranks),
        "data": _data(run),
        "provenance": provenance_table(run, json.loads((run / "provenance.json").read_text(encoding="utf-8"))),
        "css": CSS.read_text(encoding="utf-8"),
        **{f"table:{setting.strip('/') or 'all'}": retrieval_table(metrics, setting) for setting in SETTINGS},
        **{f"figure:{name}": image(svg.get(name), alt) for name, alt in ALTS.items()},
    }  # fmt: skip
    write_text(folder / "report.html", fill(PAGE.read_text(encoding="utf-8"), parts))
    return folder / "report.html"


def summary(metrics: Metrics, intervals: Intervals, donors: int) -> str:
    """Write the result in words, and its differences from each baseline."""
    best_prefix, best_name, _ = max(
        METHODS[1:], key=lambda method: metrics[f"{method[0]}contrastive/top1"] or 0.0
    )
    own = intervals["contrastive/top1", ""]
    text = (
        f"The alignment finds the right one of {donors} held-out donors in {own.value:.0%} of cases "
        f"(95 % interval {own.low:.0%} to {own.high:.0%}); the best baseline, {best_name}, in "
        f"{metrics[f'{best_prefix}contrastive/top1']:.0%}; chance is {metrics['contrastive/chance_top1']:.1%}."
    )
    items = "".join(
        _verdict(intervals, f"contrastive/{key}", prefix, f"{label} against {name}")
        for key, label in (("top1", "top-1"), ("mrr", "MRR"))
        for prefix, name, _ in METHODS[1:]
    )
    return f'<p class="headline">{escape(text)}</p><ul class="verdicts">{items}</ul>'


def composition(metrics: Metrics, intervals: Intervals) -> str:
    """List the differences from each baseline when composition is controlled for."""
    settings = [setting for setting in SETTINGS if setting and f"contrastive/{setting}top1" in metrics]
    items = "".join(
        _verdict(
            intervals, f"contrastive/{setting}top1", prefix, f"{SETTINGS[setting]}, top-1 against {name}"
        )
        for setting in settings
        for prefix, name, _ in METHODS[1:]
    )
    return f'<ul class="verdicts">{items}</ul>'


def _verdict(intervals: Intervals, metric: str, prefix: str, text: str) -> str:
    """Write one paired difference with its mark."""
    found = intervals[metric, prefix.strip("/")]
    kind = tone(metric, found.low, found.high)
    figures = f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
    return f'<li class="{kind}"><b>{MARK[kind]}</b><span>{escape(text)}: {figures}</span></li>'


def retrieval_table(metrics: Metrics, setting: str) -> str:
    """Make the table of every method, and chance, in one setting."""
    if f"contrastive/{setting}top1" not in metrics:
        return '<p class="none">Too few donors, or no mixtures, for this setting.</p>'
    rows: list[list[Any]] = []
    for prefix, name, _ in METHODS:
        group = f"{prefix}contrastive/{setting}"
        interval = f"{metrics[group + 'top1_low']:.3f} to {metrics[group + 'top1_high']:.3f}"
        first, *others = (metrics[group + key] for key in COLUMNS)
        rows.append([name, first, interval, *others])
    chance = [metrics.get(f"contrastive/{setting}chance_{key}", CHANCE.get(key)) for key in COLUMNS]
    rows.append([Html("<i>chance</i>"), chance[0], "", *chance[1:]])
    first_name, *names = COLUMNS.values()
    candidates = metrics[f"contrastive/{setting}candidates"]
    table = html_table(["", first_name, "95 % interval", *names], rows)
    return f'{table}<p class="note">{candidates:.0f} candidates per query.</p>'


def _worst(ranks: pd.DataFrame) -> str:
    """Make the table of the donors that the alignment ranks worst."""
    worst = ranks.assign(mean=ranks[["model_rank", "model_rank_back"]].mean(axis=1)).nlargest(
        WORST_SHOWN, "mean"
    )
    names = ["donor", *(f"{column}_rank" for column in ("model", "vae", "pca", "expression"))]
    return html_table(["donor", *(name for _, name, _ in METHODS)], worst[names].to_numpy().tolist())


def _data(run: Path) -> str:
    """Describe the donors of each split, cell types and genes."""
    splits = pd.read_csv(run / "splits.csv", dtype=str)["split"].value_counts()
    kinds: Mapping[str, Any] = json.loads((run / "alignment" / "alignment.json").read_text(encoding="utf-8"))
    genes: Mapping[str, Any] = json.loads((run / "alignment.json").read_text(encoding="utf-8"))
    donors = html_table(["split", "donors"], [[split, int(count)] for split, count in splits.items()])
    types = escape(", ".join(kinds["cell_types"]))
    return f"{donors}<p>{len(kinds['cell_types'])} cell types: {types}.</p><p>{genes['present']:,} genes found.</p>"
