"""Tables of evaluate, formatted for the report.

Shapes: ``d`` latent dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gtex_vae.analysis.report.gene_tables import enrichment_rows, gene_function_rows, supervised_rows
from gtex_vae.inference.intervals import KINDS, LEVELS
from gtex_vae.inference.out_of_distribution import VERDICTS

TRAVERSED, GENES_NAMED = 12, 5


class Shown(NamedTuple):
    """Header and rows of a table, and its first numeric column."""

    header: list[str]
    rows: list[list[Any]]
    numbers_from: int = 1


def read_evaluated(folder: Path) -> dict[str, pd.DataFrame]:
    """Read all tables that evaluate wrote, by file stem."""
    return {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}


def evaluated_tables(
    evaluated: Mapping[str, pd.DataFrame], metrics: Mapping[str, float | None]
) -> dict[str, Shown]:
    """Format tables by their place in the page. Evaluations by earlier versions may lack some.

    Parameters
    ----------
    evaluated
        Tables of `read_evaluated`.
    metrics
        ``metrics.json`` of evaluate.
    """
    makers = {
        "covariates": _covariates,
        "distances": _distances,
        "traversals": _traversals,
        "gene_function": lambda table: Shown(*gene_function_rows(table)),
        "gene_supervised": lambda table: Shown(*supervised_rows(table)),
        "enrichment": lambda table: Shown(*enrichment_rows(table)),
    }
    shown = {place: make(evaluated[place]) for place, make in makers.items() if place in evaluated}
    if f"reconstruction/coverage_{_percent(LEVELS[0])}" in metrics and "genes" in evaluated:
        shown["coverage"] = _coverage(evaluated["genes"], metrics)
    if "out_of_distribution" in evaluated:
        shown["verdicts"] = _verdicts(evaluated["out_of_distribution"])
    return shown


def _covariates(table: pd.DataFrame) -> Shown:
    """Sort covariates by the gain of the embedding over the tissue."""
    table = table.assign(gain=table["latent"] - table[["tissue", "chance"]].max(axis=1))
    table = table.sort_values("gain", ascending=False)
    measure = table["measure"].replace({"r2": "R2"})
    figures = table[["latent", "tissue", "chance", "gain"]].astype(float).to_numpy().tolist()
    samples = table["samples"].astype(int).tolist()
    rows = [list(row) for row in zip(table["covariate"], measure, samples, strict=True)]
    rows = [[*row, *values] for row, values in zip(rows, figures, strict=True)]
    header = ["covariate", "measure", "samples", "from the embedding", "from the tissue", "chance", "gain"]
    return Shown(header, rows, 2)


def _distances(table: pd.DataFrame) -> Shown:
    """Format median and interquartile range of the distances."""
    rows = [
        [relation, int(pairs), float(median), f"{low:.3g} to {high:.3g}"]
        for relation, pairs, median, low, high in table[["relation", "pairs", "q50", "q25", "q75"]].to_numpy()
    ]
    return Shown(["pairs of samples of", "pairs", "median distance", "interquartile range"], rows)


def _traversals(table: pd.DataFrame) -> Shown:
    """List the genes with the largest changes along each dimension, dimensions with large effects first."""
    reach = table["change"].abs().groupby(table["dimension"]).mean().sort_values(ascending=False)
    rows: list[list[Any]] = []
    for dimension in reach.index:
        part = table[table["dimension"] == dimension].set_index("rank")
        ups, downs = part[part.index > 0].sort_index(), part[part.index < 0].sort_index(ascending=False)
        named = [
            ", ".join(f"{row.gene_name} ({row.change:+.1f})" for row in side.head(GENES_NAMED).itertuples())
            for side in (ups, downs)
        ]
        rows.append([dimension, *named])
    return Shown(["dimension", "increasing genes", "decreasing genes"], rows, 3)


def _coverage(genes: pd.DataFrame, metrics: Mapping[str, float | None]) -> Shown:
    """Compare nominal and measured coverage, over all entries and per gene."""
    rows: list[list[Any]] = []
    for kind in KINDS:
        for level in LEVELS:
            name = f"coverage_{_percent(level)}"
            of_genes = genes[name if kind == "reconstruction" else f"imputation_{name}"].dropna()
            low, high = of_genes.quantile([0.05, 0.95]) if len(of_genes) else (np.nan, np.nan)
            near = float((of_genes.sub(level).abs() <= 0.05).mean())
            rows.append([kind, level, metrics.get(f"{kind}/{name}"), f"{low:.3f} to {high:.3f}", near])
    header = [
        "intervals of",
        "nominal coverage",
        "measured coverage",
        "90 % of genes",
        "genes within 5 points",
    ]
    return Shown(header, rows)


def _verdicts(table: pd.DataFrame) -> Shown:
    """Count samples per verdict, with the expected shares."""
    expected = dict(zip(VERDICTS, ("95 %", "4.5 %", "0.5 %"), strict=True))
    counts = table["verdict"].value_counts()
    rows = [
        [verdict, int(counts.get(verdict, 0)), float(counts.get(verdict, 0) / len(table)), expected[verdict]]
        for verdict in VERDICTS
    ]
    return Shown(["verdict", "held-out samples", "share", "expected share"], rows)


def _percent(level: float) -> int:
    return round(100 * level)
