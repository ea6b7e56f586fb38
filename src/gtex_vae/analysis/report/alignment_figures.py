"""Figures of the report of an alignment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gtex_vae.analysis.metrics.catalogue import SETTINGS
from gtex_vae.analysis.report.plots import blank_figure, plain_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# prefix of the metric keys, name, color (Okabe and Ito)
METHODS = (
    ("", "alignment", "#0072B2"),
    ("baseline/vae/", "untuned VAE", "#009E73"),
    ("baseline/pca/", "PCA", "#D55E00"),
    ("baseline/expression/", "expression", "#555555"),
)

Metrics = Mapping[str, float | None]


def top1_bars(metrics: Metrics) -> Figure:
    """Draw top-1 of every method in every setting, with 95 % intervals over donors and chance."""
    shown = {setting: name for setting, name in SETTINGS.items() if f"contrastive/{setting}top1" in metrics}
    figure = blank_figure(9.0, 3.4)
    axes = figure.subplots()
    width = 0.8 / len(METHODS)
    for i, (prefix, name, color) in enumerate(METHODS):
        keys = [f"{prefix}contrastive/{setting}top1" for setting in shown]
        value, low, high = np.array([[metrics[key + end] for key in keys] for end in ("", "_low", "_high")])
        at = np.arange(len(shown)) + width * (i - (len(METHODS) - 1) / 2)
        axes.bar(at, value, 0.9 * width, color=color, label=name)
        axes.vlines(at, low, high, color="0.1", lw=1.2)
    for x, setting in enumerate(shown):
        chance = metrics[f"contrastive/{setting}chance_top1"] or 0.0
        axes.hlines(chance, x - 0.45, x + 0.45, color="0.1", lw=1, ls=":", label="" if x else "chance")
    axes.set_xticks(range(len(shown)), [name.replace(" of ", "\nof ") for name in shown.values()])
    axes.set_ylim(0, 1)
    plain_axes(axes, "", "donors found first (top-1)")
    figure.legend(loc="outside upper center", ncols=len(METHODS) + 1, frameon=False, fontsize=9)
    return figure


def found_within(ranks: pd.DataFrame) -> Figure:
    """Draw the fraction of queries whose partner is among the k most similar, over both directions."""
    figure = blank_figure(6.5, 3.6)
    axes = figure.subplots()
    n = len(ranks)
    k = np.arange(1, n + 1)
    for prefix, name, color in METHODS:
        column = prefix.strip("/").rpartition("/")[2] or "model"
        rank = ranks[[f"{column}_rank", f"{column}_rank_back"]].to_numpy()
        axes.plot(k, [(rank <= most).mean() for most in k], color=color, lw=1.6, label=name)
    axes.plot(k, k / n, color="0.1", lw=1, ls=":", label="chance")
    axes.set(xscale="log", ylim=(0, 1.02), xlim=(1, n))
    plain_axes(axes, "k", "partner among the k nearest")
    axes.legend(frameon=False, fontsize=9)
    return figure


def learning_curves(curves: Mapping[str, tuple[list[int], list[float]]]) -> Figure:
    """Draw the losses, and retrieval of validation donors."""
    figure = blank_figure(9.0, 3.0)
    for axes, tags in zip(figure.subplots(1, 2), (("train/loss", "val/loss"), CURVES[2:]), strict=True):
        for tag, style in zip(tags, ("-", "--", ":"), strict=False):
            if tag in curves:
                axes.plot(*curves[tag], color=METHODS[0][2], ls=style, lw=1.4, label=tag)
        plain_axes(axes, "step")
        if axes.lines:
            axes.legend(frameon=False, fontsize=8.5)
    return figure


CURVES = ("train/loss", "val/loss", "val/mrr_all", "val/mrr", "val/top1")
