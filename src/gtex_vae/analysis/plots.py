"""Figures of a model; each returns a matplotlib figure and draws nothing on screen.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCATTER_POINTS = 20_000
LEGEND_ROWS = 27


def tissue_colors(tissues: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """A colour for each of up to some sixty tissues, neighbours in the alphabet (details of a group) alike in hue."""
    from matplotlib import colormaps

    names = sorted(set(tissues))
    hues = colormaps["turbo"](np.linspace(0.03, 0.97, max(len(names), 2)))[:, :3]
    # alternate lightness, so that neighbouring hues stay apart
    return {
        name: tuple(hue * (1.0 if i % 2 else 0.72))
        for i, (name, hue) in enumerate(zip(names, hues, strict=False))
    }


def latent_map(mu_nd: np.ndarray, tissue: Sequence[str]) -> Figure:
    """First two principal components of the embedding, coloured by tissue.

    Parameters
    ----------
    mu_nd
        Posterior means, shape (n, d).
    tissue
        One label per sample.
    """
    from matplotlib.figure import Figure

    labels = np.asarray([str(t) for t in tissue])
    centered = mu_nd - mu_nd.mean(0)
    left, singular, _ = np.linalg.svd(centered, full_matrices=False)
    xy = np.zeros((len(mu_nd), 2))
    xy[:, : min(2, len(singular))] = (left * singular)[:, :2]
    share = singular**2 / max(float((singular**2).sum()), 1e-12)
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    axes = figure.subplots()
    for name, color in tissue_colors(list(labels)).items():
        chosen = labels == name
        axes.scatter(xy[chosen, 0], xy[chosen, 1], s=14, color=color, label=name, linewidths=0)
    axes.set_xlabel(f"PC 1 of the embedding ({share[0]:.0%} of its variance)")
    axes.set_ylabel(f"PC 2 ({share[1]:.0%})" if len(share) > 1 else "")
    axes.spines[["top", "right"]].set_visible(False)
    columns = -(-len(set(labels)) // LEGEND_ROWS)
    axes.legend(
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        fontsize=7,
        frameon=False,
        ncols=columns,
        markerscale=1.5,
    )
    return figure


def reconstruction_scatter(x_ng: np.ndarray, x_hat_ng: np.ndarray, *, seed: int = 0) -> Figure:
    """Reconstructed against measured standardized expression, a random sample of entries.

    Parameters
    ----------
    x_ng, x_hat_ng
        Measured and reconstructed, shape (n, g).
    seed
        Of the choice of entries.
    """
    from matplotlib.figure import Figure

    entries = np.random.default_rng(seed).integers(0, x_ng.size, min(SCATTER_POINTS, x_ng.size))
    x, x_hat = x_ng.ravel()[entries], x_hat_ng.ravel()[entries]
    r2 = 1.0 - float(((x_ng - x_hat_ng) ** 2).sum()) / float(((x_ng - x_ng.mean()) ** 2).sum())
    low, high = np.quantile(np.concatenate([x, x_hat]), (0.0005, 0.9995))
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.hexbin(x, x_hat, gridsize=80, bins="log", mincnt=1, cmap="viridis", extent=(low, high, low, high))
    axes.plot([low, high], [low, high], color="0.3", lw=0.8)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_xlabel("measured (standard deviations)")
    axes.set_ylabel("reconstructed")
    axes.set_title(f"R2 = {r2:.3f} over all entries", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
