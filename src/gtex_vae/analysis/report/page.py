"""Report of a run, a self-contained HTML file.

Shapes: ``n`` samples, ``g`` genes, ``k`` neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gtex_vae.analysis.genes.neighbours import neighbour_rows
from gtex_vae.analysis.metrics import catalogue
from gtex_vae.analysis.report import comparisons
from gtex_vae.analysis.report.evaluated_tables import evaluated_tables
from gtex_vae.analysis.report.gene_tables import DESCRIPTIONS
from gtex_vae.analysis.report.html import (
    CSS,
    MARK,
    NOTHING,
    Html,
    embed,
    fill,
    html_table,
    image,
    provenance_table,
    script,
)
from gtex_vae.analysis.report.map_columns import encode, map_columns
from gtex_vae.analysis.report.report_data import ReportData
from gtex_vae.data.splits import SPLITS

PAGE = Path(__file__).with_name("page_template")
PAIRS_SHOWN, CONFUSIONS_SHOWN = 20, 15


def tables(data: ReportData) -> dict[str, pd.DataFrame]:
    """Return the tables that analyze writes, by file stem."""
    coordinates = pd.DataFrame(index=data.obs.index.rename("sample"))
    for method, xy_n2 in data.maps.items():
        name = method.lower().replace("-", "")
        coordinates[f"{name}_1"], coordinates[f"{name}_2"] = xy_n2.T
    coordinates = coordinates.join(data.obs[["tissue", "donor", "split"]])
    neighbours = neighbour_rows(data.genes["gene_name"], data.neighbours_gk, data.cosine_gk)
    return {
        "coordinates": coordinates,
        "gene_neighbours": neighbours.set_index("gene_id"),
        "genes": data.genes,
        "tissues": data.tissues,
        "confusion": data.confusion,
        "leakage": data.checks.set_index("check"),
        "near_duplicates": data.pairs.set_index("sample"),
    }


def report(data: ReportData, figures: Mapping[str, str]) -> str:
    """Make the page.

    Parameters
    ----------
    data
        Data of the run.
    figures
        Name to SVG text.

    Returns
    -------
    str
        HTML.
    """
    name = str(data.record.get("config", {}).get("data", {}).get("name") or "data")
    parts = {
        "title": escape(f"{name}: {data.run.name}"),
        "summary": _summary(data),
        "comparison": _comparison(data),
        "data": _data(data),
        "leakage": _leakage(data),
        "confusions": _confusions(data.confusion),
        "tissues": _tissues(data.tissues),
        "gene_embedding": escape(DESCRIPTIONS.get(data.gene_embedding, "")),
        "provenance": provenance_table(data.run, data.record),
        "json": embed(_embedded(data)),
        "css": CSS.read_text(encoding="utf-8"),
        "js": script(PAGE / "page.js"),
    }
    shown = evaluated_tables(data.evaluated, data.metrics)
    for place in EVALUATED:
        table = shown.get(place)
        parts[place] = (
            html_table(table.header, table.rows, numbers_from=table.numbers_from) if table else NOTHING
        )
    for figure, alt in FIGURES.items():
        parts[f"figure:{figure}"] = image(figures.get(figure), alt)
    return fill((PAGE / "page.html").read_text(encoding="utf-8"), parts)


FIGURES = {
    "differences": "Model minus baselines with 95 % intervals",
    "genes": "R2 of the genes, model and PCA",
    "tissues": "R2 of each tissue, model and PCA",
    "kl_per_dimension": "KL of each latent dimension",
    "training_curves": "Loss, R2 and KL over training",
    "confusion": "Tissues of held-out samples by predicted tissue",
    "coverage": "Coverage of the predictive intervals over genes",
    "distances": "Distances of pairs of samples in the embedding",
    "clustering": "Silhouette, Calinski-Harabasz and agreement with tissues against the number of clusters",
    "latent_information": "Information of each latent dimension about each covariate",
    "traversals": "Genes along single latent dimensions",
    "gene_function": "Gene function AUROC of every embedding and collection",
}
EVALUATED = (
    "covariates", "gene_function", "gene_supervised", "enrichment", "coverage", "verdicts", "distances", "traversals",
)  # fmt: skip


def _summary(data: ReportData) -> str:
    """Write the comparison with baselines in words."""
    items = "".join(
        f'<li class="{v.tone}"><b>{MARK[v.tone]}</b><span>{escape(v.text)}</span></li>'
        for v in comparisons.compare(data.intervals)
    )
    passed = bool(data.checks["passed"].all())
    leak = (
        "No leakage was found between training and held-out samples."
        if passed
        else "The leakage audit found problems: read its section before using any metric."
    )
    return (
        f'<p class="headline">{escape(comparisons.headline(data.intervals))}</p>'
        f'<p class="{"better" if passed else "worse"} audit">{leak}</p><ul class="verdicts">{items}</ul>'
        f'<p class="note">{escape(comparisons.behind_without_intervals(data.metrics, data.intervals))}</p>'
    )


def _comparison(data: ReportData) -> str:
    """Compare all metrics with PCA, with intervals if available; then list metrics without a PCA value."""
    metrics, intervals = data.metrics, data.intervals
    rows: list[list[Any]] = []
    for key in [key for key in metrics if f"baseline/pca/{key}" in metrics]:
        row: list[Any] = [catalogue.label(key), metrics[key], "", metrics[f"baseline/pca/{key}"]]
        if (key, "baseline/pca") in intervals:
            own, paired = intervals[key, ""], intervals[key, "baseline/pca"]
            tone = comparisons.tone(key, paired.low, paired.high)
            row[2] = f"{own.low:.3f} to {own.high:.3f}"
            row += [
                f"{paired.value:+.3f}",
                f"{paired.low:+.3f} to {paired.high:+.3f}",
                Html(f'<span class="{tone}">{MARK[tone]}</span>'),
            ]
        else:
            a, b = metrics[key], metrics[f"baseline/pca/{key}"]
            row += [f"{a - b:+.3f}" if a is not None and b is not None else "–", "", ""]
        rows.append(row)
    own_keys = [k for k in metrics if not k.startswith("baseline/") and f"baseline/pca/{k}" not in metrics]
    rows += [[catalogue.label(key), metrics[key], "", "", "", "", ""] for key in own_keys]
    header = ["metric", "model", "95 % interval", "PCA", "difference", "95 % interval", ""]
    missing = escape(catalogue.unavailable(metrics))
    return html_table(header, rows) + (f'<p class="note">{missing}</p>' if missing else "")


def _data(data: ReportData) -> str:
    """Count samples, donors and tissues of each split."""
    obs = data.obs
    rows = []
    for split in (*SPLITS, "all"):
        part = obs if split == "all" else obs[obs["split"] == split]
        rows.append([split, len(part), part["donor"].nunique(), part["tissue"].nunique()])
    text = f"{len(obs):,} samples × {len(data.genes):,} genes, {escape(data.unit)}."
    counts = pd.crosstab(obs["tissue"].astype("string").fillna("missing"), obs["split"])
    by_tissue = [[name, *(int(row.get(s, 0)) for s in SPLITS)] for name, row in counts.iterrows()]
    return (
        f"<p>{text}</p>{html_table(['split', 'samples', 'donors', 'tissues'], rows)}"
        f"<details><summary>samples per tissue</summary>{html_table(['tissue', *SPLITS], by_tissue)}</details>"
    )


def _leakage(data: ReportData) -> str:
    """List the checks, and the near-duplicates that were found."""
    marks = {True: '<span class="better">✔ clean</span>', False: '<span class="worse">✘ found</span>'}
    checks = data.checks[["passed", "check", "finding"]].to_numpy().tolist()
    rows = [[Html(marks[passed]), check, finding] for passed, check, finding in checks]
    table = html_table(["", "check", "finding"], rows, numbers_from=3)
    if data.pairs.empty:
        return table
    shown = data.pairs.head(PAIRS_SHOWN)
    return table + html_table(list(shown.columns), shown.to_numpy().tolist(), numbers_from=6)


def _confusions(table: pd.DataFrame) -> str:
    """List the most common confusions of tissues."""
    if table.empty:
        return ""
    total = int(table.to_numpy().sum())
    right = int(np.diag(table.to_numpy()).sum())
    counts, of = table.to_numpy(), table.to_numpy().sum(1)
    order = [(i, j) for i, j in zip(*np.nonzero(counts), strict=True) if i != j]
    order.sort(key=lambda place: -counts[place])
    wrong = [[str(table.index[i]), str(table.columns[j]), int(counts[i, j]), int(of[i])] for i, j in order]
    text = f"<p>{right:,} of {total:,} held-out samples have the tissue of most of their nearest training samples."
    header = ["tissue", "predicted as", "samples", "of"]
    return f"{text} Most common confusions:</p>{html_table(header, wrong[:CONFUSIONS_SHOWN], numbers_from=2)}"


def _tissues(table: pd.DataFrame) -> str:
    """List the metrics of each tissue."""
    columns = table.drop(columns="samples").to_numpy().tolist()
    rows = [
        [str(name), int(count), *row]
        for (name, count), row in zip(table["samples"].items(), columns, strict=True)
    ]
    names = {"r2": "R2", "imputation": "imputation R2"}
    header = [f"{names[kind]}, {who}" for kind, _, who in (c.partition("_") for c in table.columns[1:])]
    return html_table(["tissue", "held-out samples", *header], rows)


def _embedded(data: ReportData) -> dict[str, Any]:
    """Encode the data of the page's script."""
    r2 = {name: encode(data.genes[name], np.float32) for name in data.genes.columns[1:]}
    return {
        "samples": data.obs.index.astype(str).tolist(),
        "maps": {method: encode(xy_n2, np.float32) for method, xy_n2 in data.maps.items()},
        "columns": map_columns(data.obs),
        "genes": {
            "ids": data.genes.index.tolist(),
            "names": data.genes["gene_name"].astype(str).tolist(),
            "k": data.neighbours_gk.shape[1],
            "neighbours": encode(data.neighbours_gk, np.uint32),
            "cosine": encode(np.round(data.cosine_gk * 10_000), np.int16),
            "r2": r2,
        },
    }
