"""Quality control page of a matrix: a figure and tables.

Shape suffixes: n samples, g genes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gtex_vae.data.genes.columns import Matrix
from gtex_vae.data.preprocess.near_duplicates import search
from gtex_vae.data.preprocess.sample_stats import outliers, sample_stats
from gtex_vae.files import write_beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind people can distinguish
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"
TISSUES_SHOWN = 60


def qc_table(
    stats: pd.DataFrame,
    obs: pd.DataFrame,
    *,
    reason_n: npt.NDArray[Any] | None = None,
    duplicates: pd.DataFrame | None = None,
    n_mads: float = 8.0,
) -> pd.DataFrame:
    """Combine the quality measures of each sample in one table.

    Parameters
    ----------
    stats
        Result of :func:`~gtex_vae.data.preprocess.sample_stats.sample_stats`.
    obs
        Annotations in the same order, indexed by sample id.
    reason_n
        Reason to drop each sample; empty for kept ones.
    duplicates
        Result of :func:`~gtex_vae.data.preprocess.near_duplicates.near_duplicates`.
    n_mads
        Threshold for outliers, in robust standard deviations of the tissue.

    Returns
    -------
    DataFrame
        Indexed by sample: donor, tissue, the columns of ``stats``, ``outlier`` (the measures that mark it,
        joined by ``+``), ``near_duplicate_of`` and ``dropped``.
    """
    flags = outliers(stats, obs.get("tissue"), n_mads=n_mads)
    table = obs[[name for name in ("donor", "tissue") if name in obs]].astype(object)
    table = table.join(stats.set_axis(obs.index))
    named = np.where(flags.to_numpy(), np.array(flags.columns, dtype=object), "")
    table["outlier"] = ["+".join(name for name in row if name) for row in named]
    table["near_duplicate_of"] = ""
    if duplicates is not None:
        both = [*zip(duplicates["sample"], duplicates["other"], strict=True)]
        for sample, other in reversed([*both, *((b, a) for a, b in both)]):
            table.loc[sample, "near_duplicate_of"] = other
    table["dropped"] = "" if reason_n is None else reason_n
    return table


def write_qc(
    folder: Path | str,
    x_ng: Matrix,
    obs: pd.DataFrame,
    *,
    unit: str,
    reason_n: npt.NDArray[Any] | None = None,
    duplicates: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Compute the quality measures of a matrix and write ``qc.png``, ``qc_samples.csv`` and ``qc_near_duplicates.csv``.

    Parameters
    ----------
    folder
        Output folder.
    x_ng
        Samples x genes on a logarithmic scale, before samples are dropped.
    obs
        Annotations in the same order, indexed by sample id.
    unit
        Unit of ``x_ng``.
    reason_n
        Reason to drop each sample; empty for kept ones.
    duplicates
        Result of :func:`~gtex_vae.data.preprocess.near_duplicates.search`, if it is already known.

    Returns
    -------
    DataFrame
        Result of :func:`qc_table`.
    """
    stats = sample_stats(x_ng, unit)
    duplicates = search(x_ng, obs.index) if duplicates is None else duplicates
    table = qc_table(stats, obs, reason_n=reason_n, duplicates=duplicates)
    folder = Path(folder)
    with write_beside(folder / "qc_samples.csv") as temporary:
        table.to_csv(temporary, index_label="sample", float_format="%.6g")
    with write_beside(folder / "qc_near_duplicates.csv") as temporary:
        duplicates.to_csv(temporary, index=False, float_format="%.4f")
    plot_qc(folder / "qc.png", table, obs)
    return table


def plot_qc(path: Path | str, table: pd.DataFrame, obs: pd.DataFrame) -> None:
    """Plot library sizes, detected genes, outliers, samples per tissue and missing annotations.

    Parameters
    ----------
    path
        PNG file.
    table
        Result of :func:`qc_table`.
    obs
        Annotations of the same samples.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = _counts(obs)
    height = max(7.5, 2.2 + 0.145 * min(len(counts), TISSUES_SHOWN))
    figure = Figure(figsize=(14, height), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 3, width_ratios=[1, 1, 1.15])
    library, detected, scatter, missing = (
        figure.add_subplot(grid[at]) for at in ((0, 0), (0, 1), (1, 0), (1, 1))
    )
    tissues = figure.add_subplot(grid[:, 2])
    outlier = (table["outlier"] != "").to_numpy()
    size = table["library_size"].to_numpy()
    _histogram(library, np.log10(size[size > 0]), "library size", "log10 of the sum over genes, linear scale")
    _histogram(
        detected,
        table["detected_genes"].to_numpy()[size > 0],
        "genes detected",
        "genes above 0.1, linear scale",
    )
    _scatter(scatter, table, outlier)
    _bars(tissues, counts, f"samples per {counts.index.name}", TISSUES_SHOWN)
    shares = obs.isna().mean().sort_values(ascending=False) * 100
    _bars(missing, shares, "annotation missing, % of samples", 20)
    missing.set_xlim(0, 108)
    twins = int((table["near_duplicate_of"] != "").sum())
    gone = int((table["dropped"] != "").sum())
    figure.suptitle(
        f"{len(table):,} samples, {obs['donor'].nunique() if 'donor' in obs else 'unknown'} donors; "
        f"{outlier.sum()} outliers, {twins} with a near-duplicate, {gone} dropped",
        fontsize=13,
    )
    with write_beside(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _counts(obs: pd.DataFrame) -> pd.Series[int]:
    """Count the samples of each tissue."""
    for name in ("tissue", "tissue_group"):
        if name in obs and obs[name].notna().any():
            counts = obs[name].astype(object).fillna("(none given)").value_counts()
            return counts.rename_axis(name)
    return pd.Series({"(none given)": len(obs)}).rename_axis("tissue")


def _histogram(axes: Axes, value: npt.NDArray[Any], title: str, label: str) -> None:
    axes.hist(value, bins=60, color=BLUE)
    axes.axvline(float(np.median(value)) if len(value) else 0.0, color=ORANGE, linewidth=1.5, label="median")
    axes.set(xlabel=label, ylabel="samples")
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, fontsize=9)


def _scatter(axes: Axes, table: pd.DataFrame, outlier: npt.NDArray[np.bool_]) -> None:
    size, detected = table["library_size"].to_numpy(), table["detected_genes"].to_numpy()
    filled = size > 0
    for chosen, colour, label in ((~outlier, GREY, "usual"), (outlier, ORANGE, "outlier within its tissue")):
        shown = chosen & filled
        axes.scatter(size[shown], detected[shown], s=9, color=colour, label=label, linewidths=0)
    axes.set(xscale="log", xlabel="library size", ylabel="genes detected")
    empty = int((~filled).sum())
    axes.set_title(f"outliers (empty samples, not shown: {empty})" if empty else "outliers", fontsize=10)
    axes.legend(frameon=False, fontsize=9)


def _bars(axes: Axes, value: pd.Series[Any], title: str, shown: int) -> None:
    value = value.iloc[:shown]
    bars = axes.barh([str(name) for name in value.index], value.to_numpy(), color=BLUE)
    axes.bar_label(bars, fmt="{:,.4g}", padding=2, fontsize=7)
    axes.invert_yaxis()
    axes.margins(x=0.1, y=0.01)
    axes.tick_params(axis="y", labelsize=8 if len(value) <= 40 else 7)
    axes.set_title(title, fontsize=10)
