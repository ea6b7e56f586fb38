"""Matplotlib figures of the report.

Shapes: ``n`` samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.metrics import catalogue
from gtex_vae.analysis.report.comparisons import COMPARED, Intervals
from gtex_vae.analysis.report.latent_figures import latent_figures
from gtex_vae.analysis.report.plots import (
    DPI,
    LEGEND_COLUMNS,
    blank_figure,
    plain_axes,
    tissue_colors,
    tissue_markers,
)
from gtex_vae.analysis.report.report_data import ReportData
from gtex_vae.files import write_beside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, for color-blind readers
MODEL, PCA, GREEN = "#0072B2", "#D55E00", "#009E73"
TISSUES_NAMED = 60
CARRIES_NOTHING = 0.01  # nats


def figures(data: ReportData) -> Iterator[tuple[str, Figure]]:
    """Name and figure of all that the data allow."""
    for method, xy_n2 in data.maps.items():
        name = method.lower().replace("-", "")
        yield f"map_{name}", embedding_map(xy_n2, data.obs["tissue"], method)
    yield "differences", differences(data.intervals)
    yield "genes", genes(data.genes)
    if len(data.tissues):
        yield "tissues", tissues(data.tissues)
    yield "kl_per_dimension", kl_per_dimension(data.kl_d)
    if data.curves:
        yield "training_curves", training_curves(data.curves)
    if len(data.confusion):
        yield "confusion", confusion(data.confusion)
    yield from latent_figures(data.evaluated)


def write_figure(stem: Path, figure: Figure) -> str:
    """Write ``<stem>.png`` and ``<stem>.svg`` reproducibly; return the text of the SVG."""
    from matplotlib import rc_context

    with write_beside(stem.with_suffix(".png")) as temporary:
        figure.savefig(temporary, dpi=DPI)
    with rc_context({"svg.hashsalt": stem.name, "svg.fonttype": "none"}):
        drawn = BytesIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    with write_beside(stem.with_suffix(".svg")) as temporary:
        temporary.write_bytes(drawn.getvalue())
    return drawn.getvalue().decode()


def embedding_map(xy_n2: NDArray[np.floating], tissue: pd.Series, method: str) -> Figure:
    """Draw all samples on a map by tissue, with the legend below."""
    from matplotlib.collections import PathCollection

    labels = tissue.astype("string").fillna("missing").to_numpy().astype(str)
    colors, markers = tissue_colors(list(labels)), tissue_markers(list(labels))
    rows = -(-len(colors) // LEGEND_COLUMNS)
    figure = blank_figure(9.0, 6.5 + 0.18 * rows)
    axes = figure.subplots()
    size = float(np.clip(16000 / len(labels), 5, 36))
    for name, color in colors.items():
        chosen = labels == name
        axes.scatter(
            xy_n2[chosen, 0], xy_n2[chosen, 1], s=size, color=color, marker=markers[name], label=name, linewidths=0,
            rasterized=len(labels) > 3000,
        )  # fmt: skip
    plain_axes(axes, f"{method} 1", f"{method} 2")
    axes.set(xticks=[], yticks=[])
    legend = figure.legend(
        loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize=8.5, frameon=False,
        handletextpad=0.2, columnspacing=1.0, labelspacing=0.25,
    )  # fmt: skip
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([36.0])
    return figure


def differences(intervals: Intervals) -> Figure:
    """Draw model minus baseline on the headline metrics, with 95 % intervals."""
    known = {baseline for _, baseline in intervals}
    baselines = [baseline for baseline in COMPARED if baseline in known]
    metrics = [metric for metric in catalogue.HEADLINE if (metric, "") in intervals]
    figure = blank_figure(9.0, 1.2 + 0.5 * len(metrics))
    axes = figure.subplots()
    for i, (color, marker, baseline) in enumerate(zip((MODEL, PCA, GREEN), "osD", baselines, strict=False)):
        shown = [metric for metric in metrics if (metric, baseline) in intervals]
        value, low, high = np.array([intervals[metric, baseline] for metric in shown]).T
        y = np.array([metrics.index(metric) for metric in shown]) + 0.22 * (i - (len(baselines) - 1) / 2)
        label = f"minus {COMPARED[baseline]}"
        # a percentile interval may exclude the value, so it is not an error bar
        axes.hlines(y, low, high, color=color, lw=1.6)
        axes.plot(value, y, marker, color=color, label=label)
    axes.axvline(0, color="0.3", lw=0.8)
    axes.set_yticks(range(len(metrics)), [catalogue.label(metric) for metric in metrics])
    axes.invert_yaxis()
    plain_axes(axes, "difference (positive: the model is better)")
    figure.legend(loc="outside upper center", ncols=len(baselines), frameon=False, fontsize=9)
    return figure


def genes(table: pd.DataFrame) -> Figure:
    """Draw the distribution of R2 over genes, for the model and PCA."""
    figure = blank_figure(9.0, 3.6)
    kinds = {"r2": "reconstruction", "imputation": "imputation, 20 % hidden"}
    for axes, (kind, title) in zip(figure.subplots(1, 2, sharey=True), kinds.items(), strict=True):
        columns = [table[f"{kind}_{method}"].dropna() for method in ("model", "pca")]
        # without a limit, a few very negative values would compress the axis
        low = float(np.clip(min(column.quantile(0.01) for column in columns), -1, 0)) if len(table) else 0.0
        bins = np.linspace(low, 1, 61)
        for column, color, style, name in zip(
            columns, (MODEL, PCA), ("-", "--"), ("model", "PCA"), strict=True
        ):
            label = f"{name}, median {column.median():.3f}"
            axes.hist(
                column.clip(lower=low), bins=bins, histtype="step", color=color, ls=style, lw=1.6, label=label
            )
        axes.set_title(title, fontsize=11)
        plain_axes(axes, "R2 of a gene over held-out samples", "genes" if kind == "r2" else "")
        axes.legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def tissues(table: pd.DataFrame) -> Figure:
    """Draw R2 of each tissue for the model and PCA, sorted by the model's."""
    table = table.sort_values("r2_model")
    y = np.arange(len(table))
    figure = blank_figure(9.0, 1.2 + 0.19 * len(table))
    kinds = {"r2": "reconstruction", "imputation": "imputation, 20 % hidden"}
    low = float(np.nanmin(table.drop(columns="samples").to_numpy()))
    for axes, (kind, title) in zip(figure.subplots(1, 2, sharey=True), kinds.items(), strict=True):
        model, pca = table[f"{kind}_model"], table[f"{kind}_pca"]
        axes.hlines(y, pca, model, color="0.75", lw=1)
        axes.plot(pca, y, "s", color=PCA, ms=4, label="PCA", mfc="none")
        axes.plot(model, y, "o", color=MODEL, ms=4, label="model")
        axes.set_yticks(y, [f"{name} ({n})" for name, n in table["samples"].items()], fontsize=7.5)
        axes.set(xlim=(max(low - 0.05, -1.0), 1.0), ylim=(-0.7, len(table) - 0.3))
        axes.grid(axis="y", color="0.93")
        axes.set_axisbelow(True)
        axes.set_title(title, fontsize=11)
        plain_axes(axes, "R2 over held-out entries")
        axes.legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def kl_per_dimension(kl_d: NDArray[np.float64]) -> Figure:
    """Draw the KL of each latent dimension in descending order."""
    from matplotlib.ticker import MaxNLocator

    figure = blank_figure(9.0, 3.0)
    axes = figure.subplots()
    axes.bar(np.arange(1, len(kl_d) + 1), kl_d, color=MODEL, width=0.8)
    if kl_d.min() < 10 * CARRIES_NOTHING:
        axes.axhline(CARRIES_NOTHING, color="0.3", lw=0.8, ls=":")
    axes.set_xlim(0.3, len(kl_d) + 0.7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain_axes(axes, "latent dimension, by KL", "KL (nats per sample)")
    return figure


def training_curves(curves: dict[str, tuple[list[int], list[float]]]) -> Figure:
    """Draw loss, R2 and KL over training steps."""
    figure = blank_figure(9.0, 3.2)
    groups = {
        "loss": ("train/loss", "val/loss"),
        "R2": ("val/r2", "val/imputation_r2_20"),
        "KL (nats per sample)": ("val/kl_nats",),
    }
    for axes, (title, tags) in zip(figure.subplots(1, len(groups)), groups.items(), strict=True):
        for tag, color, style in zip(tags, (MODEL, PCA), ("-", "--"), strict=False):
            if tag in curves:
                axes.plot(*curves[tag], color=color, ls=style, lw=1.4, label=tag)
        axes.set_title(title, fontsize=11)
        plain_axes(axes, "step")
        if axes.lines:
            axes.legend(frameon=False, fontsize=8.5)
    return figure


def confusion(table: pd.DataFrame) -> Figure:
    """Draw the share of each tissue's held-out samples by predicted tissue."""
    shares = table.to_numpy() / np.maximum(table.to_numpy().sum(1, keepdims=True), 1)
    named = len(table) <= TISSUES_NAMED
    side = float(np.clip(2.5 + 0.17 * len(table), 4.5, 11))
    figure = blank_figure(side + 0.8, side)
    axes = figure.subplots()
    drawn = axes.imshow(np.where(shares > 0, shares, np.nan), cmap="viridis_r", vmin=0, vmax=1)
    ticks = np.arange(len(table)) if named else np.arange(0, len(table), 5)
    axes.set_xticks(ticks, table.columns[ticks], rotation=90, fontsize=6.5)
    axes.set_yticks(ticks, table.index[ticks], fontsize=6.5)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true tissue")
    figure.colorbar(drawn, ax=axes, label="share of the tissue's held-out samples", shrink=0.6)
    return figure
