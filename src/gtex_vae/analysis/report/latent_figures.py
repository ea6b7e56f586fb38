"""Figures of the latent space and of predictive intervals, from the tables of evaluate.

Shapes: ``d`` latent dimensions, ``k`` clusters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gtex_vae.analysis.report.gene_tables import gene_function_figure
from gtex_vae.analysis.report.plots import blank_figure, plain_axes
from gtex_vae.inference.intervals import LEVELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
PANELS, GENES_DRAWN = 12, 3


def latent_figures(evaluated: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, Figure]]:
    """Yield name and figure for every table that exists."""
    makers = {
        "distances": distances,
        "clustering": clustering,
        "latent_information": latent_information,
        "traversals": traversals,
        "gene_function": gene_function_figure,
    }
    for name, draw in makers.items():
        table = evaluated.get(name)
        if table is not None and len(table) and len(table.columns) > 2:
            yield name, draw(table)
    genes = evaluated.get("genes")
    if genes is not None and f"coverage_{round(100 * LEVELS[0])}" in genes:
        yield "coverage", coverage(genes)


def distances(table: pd.DataFrame) -> Figure:
    """Draw quantiles (5, 25, 50, 75, 95 %) of distances between samples, by shared tissue and donor."""
    figure = blank_figure(9.0, 0.9 + 0.45 * len(table))
    axes = figure.subplots()
    boxes = [
        {"med": row.q50, "q1": row.q25, "q3": row.q75, "whislo": row.q05, "whishi": row.q95, "label": row.relation}
        for row in table.itertuples()
    ]  # fmt: skip
    axes.bxp(
        boxes, orientation="horizontal", showfliers=False, patch_artist=True, widths=0.55,
        boxprops={"facecolor": BLUE, "alpha": 0.35, "edgecolor": BLUE}, medianprops={"color": ORANGE, "lw": 2},
    )  # fmt: skip
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    plain_axes(axes, "distance of two samples in the embedding")
    return figure


def clustering(table: pd.DataFrame) -> Figure:
    """Draw scores of k-means, and its agreement with the tissues, against the number of clusters."""
    figure = blank_figure(9.0, 3.2)
    kmeans, tissue = table[table["labels"] == "kmeans"], table[table["labels"] == "tissue"]
    panels = {
        "silhouette": (("silhouette", BLUE, "-", "k-means"),),
        "Calinski-Harabasz": (("calinski_harabasz", BLUE, "-", "k-means"),),
        "agreement with tissues": (("ari", GREEN, "-", "ARI"), ("nmi", PURPLE, "--", "NMI")),
    }
    for axes, (title, curves) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        for column, color, style, label in curves:
            axes.plot(kmeans["k"], kmeans[column], color=color, ls=style, lw=1.6, label=label)
            if len(tissue) and column not in ("ari", "nmi"):
                axes.plot(tissue["k"], tissue[column], "D", color=ORANGE, label="the tissues")
        axes.set_title(title, fontsize=11)
        plain_axes(axes, "clusters")
        axes.legend(frameon=False, fontsize=8.5)
    return figure


def latent_information(table: pd.DataFrame) -> Figure:
    """Draw mutual information of dimensions with covariates, the most informative dimensions first."""
    values = table.set_index("dimension").drop(columns="variance")
    values = values.loc[values.max(axis=1).sort_values(ascending=False).index]
    figure = blank_figure(9.0, 1.3 + 0.32 * len(values.columns))
    axes = figure.subplots()
    drawn = axes.imshow(values.T, aspect="auto", cmap="viridis_r", vmin=0, interpolation="nearest")
    axes.set_yticks(range(len(values.columns)), values.columns)
    step = max(1, len(values) // 32)
    axes.set_xticks(range(0, len(values), step), values.index[::step], rotation=90, fontsize=7)
    figure.colorbar(drawn, ax=axes, label="nats", shrink=0.9)
    axes.set_xlabel("latent dimension, by information")
    return figure


def traversals(table: pd.DataFrame) -> Figure:
    """Draw expression along the dimensions with the largest effects."""
    steps = [column for column in table.columns if column.startswith("at_")]
    x = [float(column.removeprefix("at_")) for column in steps]
    reach = table["change"].abs().groupby(table["dimension"]).mean().sort_values(ascending=False)
    shown = reach.index[:PANELS]
    rows = -(-len(shown) // 4)
    figure = blank_figure(9.5, 2.2 * rows + 0.3)
    panels = figure.subplots(rows, 4, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, dimension in zip(panels, shown, strict=False):
        part = table[table["dimension"] == dimension].set_index("rank")
        for sign, color in ((1, ORANGE), (-1, BLUE)):
            for rank in range(1, GENES_DRAWN + 1):
                if sign * rank not in part.index:
                    continue
                gene = part.loc[sign * rank]
                axes.plot(x, gene[steps].astype(float), color=color, lw=1.2, ls=("-", "--", ":")[rank - 1],
                          label=str(gene["gene_name"]))  # fmt: skip
        axes.set_title(dimension, fontsize=9.5)
        axes.legend(frameon=False, fontsize=6, ncols=2, handlelength=1.4, columnspacing=0.6, labelspacing=0.2)
        plain_axes(axes)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    figure.supxlabel("standard deviations along the dimension", fontsize=10)
    figure.supylabel("expression (standardized)", fontsize=10)
    return figure


def coverage(genes: pd.DataFrame) -> Figure:
    """Draw the distribution of coverage over genes, with the nominal levels."""
    figure = blank_figure(9.0, 3.2)
    kinds = {"": "reconstruction", "imputation_": "imputation, 20 % hidden"}
    for axes, (prefix, title) in zip(figure.subplots(1, 2, sharey=True), kinds.items(), strict=True):
        for level, color in zip(LEVELS, (BLUE, ORANGE, GREEN, PURPLE), strict=True):
            found = genes[f"{prefix}coverage_{round(100 * level)}"].dropna()
            label = f"{level:.0%} intervals: {found.mean():.1%}".replace("%", " %")
            axes.hist(found, bins=np.linspace(0, 1, 101), histtype="step", color=color, lw=1.5, label=label)
            axes.axvline(level, color=color, ls=":", lw=1)
        axes.set_title(title, fontsize=11)
        axes.set_xlim(0.3, 1.0)
        plain_axes(axes, "share of held-out samples within the interval", "" if prefix else "genes")
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure
