"""Filters of samples and genes; every dropped one is counted with its reason.

Shape suffixes: n samples, g genes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gtex_vae.data.genes.columns import Matrix
from gtex_vae.data.preprocess.gene_stats import gene_stats, top_variable
from gtex_vae.data.preprocess.sample_stats import outliers, sample_stats
from gtex_vae.errors import DataError


@dataclass(frozen=True)
class Kept:
    """Result of the filters.

    Parameters
    ----------
    keep_n, keep_g
        True for the samples and genes to keep.
    dropped
        ``{"samples": {reason: count}, "genes": {reason: count}}``, for ``uns["provenance"]["dropped"]``;
        each is counted once, for the first reason that applies.
    reason_n
        Reason for each dropped sample, empty for kept ones.
    """

    keep_n: npt.NDArray[np.bool_]
    keep_g: npt.NDArray[np.bool_]
    dropped: dict[str, dict[str, int]]
    reason_n: npt.NDArray[Any]


def filter_samples(
    stats: pd.DataFrame,
    obs: pd.DataFrame,
    *,
    blacklist: Collection[str] = (),
    only_freeze: bool = True,
    drop_outliers: bool = False,
    n_mads: float = 8.0,
    min_detected: int = 0,
) -> npt.NDArray[Any]:
    """Return for each sample the reason to drop it, or an empty string.

    Parameters
    ----------
    stats
        Result of :func:`~gtex_vae.data.preprocess.sample_stats.sample_stats`.
    obs
        Annotations in the same order, indexed by sample id.
    blacklist
        Ids of samples to drop.
    only_freeze
        Drop samples outside GTEx's analysis freeze, if ``obs`` has ``in_freeze``.
    drop_outliers
        Drop the samples that :func:`~gtex_vae.data.preprocess.sample_stats.outliers` marks; they are always reported.
    n_mads
        Threshold for outliers, in robust standard deviations.
    min_detected
        Minimum number of detected genes.

    Raises
    ------
    DataError
        A blacklisted sample does not exist.
    """
    unknown = [sample for sample in blacklist if sample not in obs.index]
    if unknown:
        raise DataError(
            f"{len(unknown)} blacklisted samples are not in the matrix: {', '.join(unknown[:3])}; "
            f"its ids are like {obs.index[0]}"
        )
    rules: list[tuple[str, npt.NDArray[np.bool_]]] = [
        ("blacklisted", obs.index.isin(list(blacklist))),
        ("all zero", stats["library_size"].to_numpy() <= 0),
    ]
    if only_freeze and "in_freeze" in obs:
        # a sample without annotation is not one that GTEx excluded
        rules.append(("outside the analysis freeze", (obs["freeze"].notna() & ~obs["in_freeze"]).to_numpy()))
    if min_detected:
        few = stats["detected_genes"].to_numpy() < min_detected
        rules.append((f"fewer than {min_detected} genes detected", few))
    if drop_outliers:
        groups = obs.get("tissue")
        rules.append(("outlier", outliers(stats, groups, n_mads=n_mads).any(axis=1).to_numpy()))
    reason_n = np.full(len(obs), "", dtype=object)
    for reason, applies in rules:
        reason_n[applies & (reason_n == "")] = reason
    return reason_n


def filter_matrix(
    x_ng: Matrix,
    obs: pd.DataFrame,
    *,
    unit: str,
    stats: pd.DataFrame | None = None,
    min_expression: float = 0.1,
    min_prevalence: float = 0.0,
    top_genes: int | None = None,
    rank_by: str = "variance",
    **samples: Any,
) -> Kept:
    """Decide which samples to keep, then which genes, based on the kept samples only.

    Parameters
    ----------
    x_ng
        Samples x genes, dense, CSR or on disk.
    obs
        Annotations in the same order, indexed by sample id.
    unit
        Unit of ``x_ng``.
    stats
        Statistics of the samples, if they are already known.
    min_expression, min_prevalence
        Keep genes above ``min_expression`` (linear scale) in at least the share ``min_prevalence`` of the samples;
        0 keeps all.
    top_genes, rank_by
        Keep this many of the most variable genes; see :func:`~gtex_vae.data.preprocess.gene_stats.top_variable`.
    **samples
        See :func:`filter_samples`.

    Raises
    ------
    DataError
        No sample or gene is left, or a blacklisted sample does not exist.
    """
    stats = sample_stats(x_ng, unit) if stats is None else stats
    reason_n = filter_samples(stats, obs, **samples)
    keep_n = reason_n == ""
    dropped: dict[str, dict[str, int]] = {"samples": {}, "genes": {}}
    for reason in dict.fromkeys(reason_n[~keep_n]):
        dropped["samples"][reason] = int((reason_n == reason).sum())
    if not keep_n.any():
        raise DataError(f"the filters leave no sample of {len(keep_n)}: {dropped['samples']}")
    keep_g = np.ones(x_ng.shape[1], dtype=bool)
    if min_prevalence > 0 or top_genes is not None:
        genes = gene_stats(x_ng, unit, keep_n=keep_n, min_expression=min_expression)
        rare_g = genes.prevalence_g < min_prevalence
        if rare_g.any():
            dropped["genes"][f"above {min_expression:g} in under {min_prevalence:.0%} of samples"] = int(
                rare_g.sum()
            )
            keep_g &= ~rare_g
        if top_genes is not None and top_genes < keep_g.sum():
            genes.var_g[rare_g] = -1.0
            keep_top_g = top_variable(genes, top_genes, rank_by=rank_by) & keep_g
            dropped["genes"][f"not among the {top_genes} most variable ({rank_by})"] = int(
                keep_g.sum() - keep_top_g.sum()
            )
            keep_g = keep_top_g
    if not keep_g.any():
        raise DataError(f"the filters leave no gene of {len(keep_g)}: {dropped['genes']}")
    return Kept(keep_n, keep_g, dropped, reason_n)
