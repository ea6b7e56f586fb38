"""Matplotlib figures of a model, and helpers for all figures.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCATTER_POINTS = 20_000
MARKERS = "o^sDvPX*"  # tissues with equal markers are eight hues apart, also for color-blind readers
LEGEND_COLUMNS = 3
SHADE = 0.85  # darkens the color map, whose greens are pale on white
DPI = 120  # TensorBoard shows figures at this size when opened


def tissue_colors(tissues: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Choose a color per tissue; alphabetical neighbours, often of one organ, get similar hues.

    With 60 tissues, neighbouring hues are hard to distinguish: combine them with `tissue_markers`.
    """
    from matplotlib import colormaps

    names = sorted(set(tissues))
    hues = colormaps["rainbow"](np.linspace(0.0, 1.0, max(len(names), 2)))[:, :3]
    return {name: tuple((SHADE * hue).tolist()) for name, hue in zip(names, hues, strict=False)}


def tissue_markers(tissues: Sequence[str]) -> dict[str, str]:
    """Choose a marker per tissue that differs from those of its alphabetical neighbours."""
    return {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(sorted(set(tissues)))}


def blank_figure(width: float, height: float) -> Figure:
    """Create an empty figure of this size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def plain_axes(axes: Axes, x: str = "", y: str = "") -> None:
    """Set labels and hide the top and right spines."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)


def latent_map(mu_nd: np.ndarray, tissue: Sequence[str]) -> Figure:
    """Draw the first two principal components of the embedding, colored by tissue.

    Parameters
    ----------
    mu_nd
        Posterior means, shape (n, d).
    tissue
        One label per sample.

    Returns
    -------
    matplotlib.figure.Figure
        Map with the legend below, so that the map keeps its size in a narrow TensorBoard card.
    """
    from matplotlib.collections import PathCollection

    labels = np.asarray([str(t) for t in tissue])
    centered = mu_nd - mu_nd.mean(0)
    left, singular, _ = np.linalg.svd(centered, full_matrices=False)
    xy = np.zeros((len(mu_nd), 2))
    xy[:, : min(2, len(singular))] = (left * singular)[:, :2]
    share = singular**2 / max(float((singular**2).sum()), 1e-12)
    colors, markers = tissue_colors(list(labels)), tissue_markers(list(labels))
    rows = -(-len(colors) // LEGEND_COLUMNS)
    figure = blank_figure(9.0, 6.5 + 0.18 * rows)
    axes = figure.subplots()
    size = float(np.clip(6000 / len(labels), 8, 36))
    for name, color in colors.items():
        chosen = labels == name
        axes.scatter(
            xy[chosen, 0], xy[chosen, 1], s=size, color=color, marker=markers[name], label=name, linewidths=0
        )
    axes.set_xlabel(f"PC 1 of the embedding ({share[0]:.0%} of its variance)", fontsize=12)
    axes.set_ylabel(f"PC 2 ({share[1]:.0%})" if len(share) > 1 else "", fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    legend = figure.legend(
        loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize=8.5, frameon=False,
        handletextpad=0.2, columnspacing=1.0, labelspacing=0.25,
    )  # fmt: skip
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([36.0])
    return figure


def reconstruction_scatter(x_ng: np.ndarray, x_hat_ng: np.ndarray, *, seed: int = 0) -> Figure:
    """Draw reconstructed against measured standardized expression, for a random sample of entries.

    Parameters
    ----------
    x_ng, x_hat_ng
        Measured and reconstructed, shape (n, g).
    seed
        Seed of the sample of entries.
    """
    entries = np.random.default_rng(seed).integers(0, x_ng.size, min(SCATTER_POINTS, x_ng.size))
    x, x_hat = x_ng.ravel()[entries], x_hat_ng.ravel()[entries]
    mean, rows = x_ng.mean(), [slice(start, start + 256) for start in range(0, len(x_ng), 256)]
    error = sum(float(np.square(x_ng[part] - x_hat_ng[part]).sum()) for part in rows)
    r2 = 1.0 - error / sum(float(np.square(x_ng[part] - mean).sum()) for part in rows)
    low, high = np.quantile(np.concatenate([x, x_hat]), (0.0005, 0.9995))
    figure = blank_figure(6.5, 5.5)
    axes = figure.subplots()
    density = axes.hexbin(
        x,
        x_hat,
        gridsize=70,
        bins="log",
        mincnt=1,
        cmap="viridis_r",
        extent=(low, high, low, high),
        linewidths=0.1,
    )
    axes.plot([low, high], [low, high], color="0.3", lw=0.8)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_xlabel("measured (standard deviations)", fontsize=12)
    axes.set_ylabel("reconstructed", fontsize=12)
    axes.set_title(f"R2 = {r2:.3f} over all entries", fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    figure.colorbar(density, ax=axes, label=f"entries, of {len(x):,} drawn at random", shrink=0.8)
    return figure
