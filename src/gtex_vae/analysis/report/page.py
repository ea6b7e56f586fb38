"""The report: one HTML file that needs nothing beside it.

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
from gtex_vae.analysis.report.findings import Findings
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
from gtex_vae.data.splits import SPLITS

PAGE = Path(__file__).with_name("page_template")
PAIRS_SHOWN, CONFUSIONS_SHOWN = 20, 15


def tables(findings: Findings) -> dict[str, pd.DataFrame]:
    """File stem to table, of what is new here: coordinates, genes, tissues, neighbours, confusion, leakage."""
    coordinates = pd.DataFrame(index=findings.obs.index.rename("sample"))
    for method, xy_n2 in findings.maps.items():
        name = method.lower().replace("-", "")
        coordinates[f"{name}_1"], coordinates[f"{name}_2"] = xy_n2.T
    coordinates = coordinates.join(findings.obs[["tissue", "donor", "split"]])
    neighbours = neighbour_rows(findings.genes["gene_name"], findings.neighbours_gk, findings.cosine_gk)
    return {
        "coordinates": coordinates,
        "gene_neighbours": neighbours.set_index("gene_id"),
        "genes": findings.genes,
        "tissues": findings.tissues,
        "confusion": findings.confusion,
        "leakage": findings.checks.set_index("check"),
        "near_duplicates": findings.pairs.set_index("sample"),
    }


def report(findings: Findings, figures: Mapping[str, str]) -> str:
    """The page.

    Parameters
    ----------
    findings
        What to show.
    figures
        Name to SVG text.

    Returns
    -------
    str
        HTML.
    """
    name = str(findings.record.get("config", {}).get("data", {}).get("name") or "data")
    parts = {
        "title": escape(f"{name}: {findings.run.name}"),
        "summary": _summary(findings),
        "comparison": _comparison(findings),
        "data": _data(findings),
        "leakage": _leakage(findings),
        "confusions": _confusions(findings.confusion),
        "tissues": _tissues(findings.tissues),
        "gene_embedding": escape(DESCRIPTIONS.get(findings.gene_embedding, "")),
        "provenance": provenance_table(findings.run, findings.record),
        "json": embed(_embedded(findings)),
        "css": CSS.read_text(encoding="utf-8"),
        "js": script(PAGE / "page.js"),
    }
    shown = evaluated_tables(findings.evaluated, findings.metrics)
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
    "genes": "R2 of the genes, model beside PCA",
    "tissues": "R2 of each tissue, model beside PCA",
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


def _summary(findings: Findings) -> str:
    """Verdicts in words."""
    items = "".join(
        f'<li class="{v.tone}"><b>{MARK[v.tone]}</b><span>{escape(v.text)}</span></li>'
        for v in comparisons.compare(findings.intervals)
    )
    passed = bool(findings.checks["passed"].all())
    leak = (
        "No leak was found between training and held-out samples."
        if passed
        else "The leakage audit found something: see below before trusting any figure."
    )
    return (
        f'<p class="headline">{escape(comparisons.headline(findings.intervals))}</p>'
        f'<p class="{"better" if passed else "worse"} audit">{leak}</p><ul class="verdicts">{items}</ul>'
        f'<p class="note">{escape(comparisons.behind_without_intervals(findings.metrics, findings.intervals))}</p>'
    )


def _comparison(findings: Findings) -> str:
    """Every metric that PCA has too, with intervals where there are some."""
    metrics, intervals = findings.metrics, findings.intervals
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
    return html_table(header, rows)


def _data(findings: Findings) -> str:
    """Samples, donors and tissues of each split."""
    obs = findings.obs
    rows = []
    for split in (*SPLITS, "all"):
        part = obs if split == "all" else obs[obs["split"] == split]
        rows.append([split, len(part), part["donor"].nunique(), part["tissue"].nunique()])
    text = f"{len(obs):,} samples × {len(findings.genes):,} genes, {escape(findings.unit)}."
    counts = pd.crosstab(obs["tissue"].astype("string").fillna("missing"), obs["split"])
    by_tissue = [[name, *(int(row.get(s, 0)) for s in SPLITS)] for name, row in counts.iterrows()]
    return (
        f"<p>{text}</p>{html_table(['split', 'samples', 'donors', 'tissues'], rows)}"
        f"<details><summary>samples of each tissue</summary>{html_table(['tissue', *SPLITS], by_tissue)}</details>"
    )


def _leakage(findings: Findings) -> str:
    """Checks, and the pairs that were found."""
    marks = {True: '<span class="better">✔ clean</span>', False: '<span class="worse">✘ found</span>'}
    checks = findings.checks[["passed", "check", "finding"]].to_numpy().tolist()
    rows = [[Html(marks[passed]), check, finding] for passed, check, finding in checks]
    table = html_table(["", "check", "finding"], rows, numbers_from=3)
    if findings.pairs.empty:
        return table
    shown = findings.pairs.head(PAIRS_SHOWN)
    return table + html_table(list(shown.columns), shown.to_numpy().tolist(), numbers_from=6)


def _confusions(table: pd.DataFrame) -> str:
    """The commonest mistakes in words."""
    if table.empty:
        return ""
    total = int(table.to_numpy().sum())
    right = int(np.diag(table.to_numpy()).sum())
    counts, of = table.to_numpy(), table.to_numpy().sum(1)
    order = [(i, j) for i, j in zip(*np.nonzero(counts), strict=True) if i != j]
    order.sort(key=lambda place: -counts[place])
    wrong = [[str(table.index[i]), str(table.columns[j]), int(counts[i, j]), int(of[i])] for i, j in order]
    text = f"<p>{right:,} of {total:,} held-out samples get their tissue from their nearest training samples."
    header = ["tissue", "taken for", "samples", "of"]
    return f"{text} The commonest mistakes:</p>{html_table(header, wrong[:CONFUSIONS_SHOWN], numbers_from=2)}"


def _tissues(table: pd.DataFrame) -> str:
    """Figures of each tissue."""
    columns = table.drop(columns="samples").to_numpy().tolist()
    rows = [
        [str(name), int(count), *row]
        for (name, count), row in zip(table["samples"].items(), columns, strict=True)
    ]
    names = {"r2": "R2", "imputation": "imputation R2"}
    header = [f"{names[kind]}, {who}" for kind, _, who in (c.partition("_") for c in table.columns[1:])]
    return html_table(["tissue", "held-out samples", *header], rows)


def _embedded(findings: Findings) -> dict[str, Any]:
    """What the page's script draws from."""
    r2 = {name: encode(findings.genes[name], np.float32) for name in findings.genes.columns[1:]}
    return {
        "samples": findings.obs.index.astype(str).tolist(),
        "maps": {method: encode(xy_n2, np.float32) for method, xy_n2 in findings.maps.items()},
        "columns": map_columns(findings.obs),
        "genes": {
            "ids": findings.genes.index.tolist(),
            "names": findings.genes["gene_name"].astype(str).tolist(),
            "k": findings.neighbours_gk.shape[1],
            "neighbours": encode(findings.neighbours_gk, np.uint32),
            "cosine": encode(np.round(findings.cosine_gk * 10_000), np.int16),
            "r2": r2,
        },
    }
