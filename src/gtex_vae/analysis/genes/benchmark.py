"""Comparison of gene embeddings by gene function, with intervals, a null and supervised prediction.

Shapes: g genes, d embedding dimensions, s gene sets, e embeddings, b resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.genes.function import Members, function_table, permutation_null, unit_length
from gtex_vae.analysis.genes.supervised import draw_tasks, supervised_table

PERMUTATIONS = 20
NULL_SETS = 50  # drawn from each collection; the null is narrow enough with these
RESAMPLES = 1000
AGAINST = ("pca", "expression")


@dataclass
class GeneBenchmark:
    """Result of `gene_benchmark`.

    Attributes
    ----------
    metrics
        ``gene/function_auroc``, ``gene/function_auroc_matched``, ``gene/function_auroc_null`` as means over the
        collections, and for each collection with ``/<collection>`` appended; ``gene/supervised_auroc`` if
        ``supervised_terms`` > 0. The prefix of a key names the embedding.
    tables
        ``gene_function`` (a row per collection and embedding), ``gene_function_<collection>`` (a row per gene set)
        and ``gene_supervised``.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


def gene_benchmark(
    embeddings: Mapping[str, NDArray[np.floating]],
    collections: Mapping[str, Members],
    level_g: NDArray[np.floating],
    *,
    prefixes: Mapping[str, str],
    supervised_terms: int = 0,
    seed: int = 0,
) -> GeneBenchmark:
    """Compare gene embeddings on the same gene sets, random sets and classifiers.

    Parameters
    ----------
    embeddings
        Name to embedding, shape (g, d).
    collections
        Name of a collection to the gene indices of its sets.
    level_g
        Mean expression of each gene, shape (g,).
    prefixes
        Name of an embedding to the prefix of its metric keys; ``""`` for the run's own embedding.
    supervised_terms
        Total number of sets to predict by support vector machines; see `supervised_table`.
    seed
        Seed of the random sets, the resamples and the choice of sets to predict.

    Returns
    -------
    GeneBenchmark
        Metrics and tables. Intervals are 95 % and come from resampling gene sets; they are somewhat narrow because sets
        share genes. The null shuffles gene names within expression levels; its ``p`` is the fraction of shuffles,
        counting the real names as one, whose mean AUROC is at least that of the real sets.
    """
    result, summaries = GeneBenchmark(), []
    units = {name: unit_length(x_gd) for name, x_gd in embeddings.items()}
    for collection, members in collections.items():
        tables = {name: function_table(unit_gd, members, level_g) for name, unit_gd in units.items()}
        whole = next(iter(tables.values()))[["genes"]].copy()
        for name, table in tables.items():
            whole[name], whole[f"{name}_matched"] = table["auroc"], table["matched"]
        result.tables[f"gene_function_{collection}"] = whole
        summary = _summary(whole, list(embeddings), seed)
        nulls = pd.DataFrame(
            {
                name: _null(unit_gd, members, level_g, tables[name]["auroc"], seed)
                for name, unit_gd in units.items()
            },
            index=["null", "null_low", "null_high", "p"],
        ).T
        summaries.append(summary.join(nulls).assign(collection=collection))
    together = pd.concat(summaries).rename_axis("embedding").reset_index()
    result.tables["gene_function"] = together.set_index(["collection", "embedding"])
    for name, prefix in prefixes.items():
        rows = together[together["embedding"] == name].set_index("collection")
        for column, key in (("auroc", ""), ("matched", "_matched"), ("null", "_null")):
            of_collections = rows[column]
            result.metrics |= {
                f"{prefix}gene/function_auroc{key}/{c}": float(v) for c, v in of_collections.items()
            }
            result.metrics[f"{prefix}gene/function_auroc{key}"] = float(of_collections.mean())
    tasks = draw_tasks(collections, supervised_terms, seed=seed)
    if tasks:
        supervised = supervised_table(embeddings, tasks)
        result.tables["gene_supervised"] = supervised
        for name, prefix in prefixes.items():
            result.metrics[f"{prefix}gene/supervised_auroc"] = float(supervised[name].mean())
    return result


def _summary(table: pd.DataFrame, names: list[str], seed: int) -> pd.DataFrame:
    """Compute means over sets with intervals, and paired differences from the baselines."""
    values_se = table[[*names, *(f"{name}_matched" for name in names)]].to_numpy(dtype=float)
    random = np.random.default_rng(seed)
    drawn_bs = random.multinomial(len(table), np.full(len(table), 1 / len(table)), size=RESAMPLES)
    # the matched AUROC is NaN if a set contains all genes of its levels
    known_se = np.isfinite(values_se)
    mean_e = np.nanmean(values_se, axis=0)
    means_be = drawn_bs @ np.nan_to_num(values_se) / np.maximum(drawn_bs @ known_se, 1)
    low_e, high_e = np.quantile(means_be, [0.025, 0.975], axis=0)
    rows = {}
    for e, name in enumerate(names):
        m = e + len(names)
        row = {"sets": len(table), "auroc": mean_e[e], "low": low_e[e], "high": high_e[e],
               "matched": mean_e[m], "matched_low": low_e[m], "matched_high": high_e[m]}  # fmt: skip
        for against in AGAINST:
            if against in names and against != name:
                other = names.index(against)
                low, high = np.quantile(means_be[:, e] - means_be[:, other], [0.025, 0.975])
                row |= {f"minus_{against}": mean_e[e] - mean_e[other],
                        f"minus_{against}_low": low, f"minus_{against}_high": high}  # fmt: skip
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def _null(
    unit_gd: NDArray[np.float32],
    members: Members,
    level_g: NDArray[np.floating],
    auroc_s: pd.Series,
    seed: int,
) -> tuple[float, float, float, float]:
    """Compute the mean AUROC of random sets of equal sizes and levels, its interval and the p value of the real sets."""
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(len(members))[:NULL_SETS])
    genes = list(members.values())
    null_ps = permutation_null(
        unit_gd,
        [genes[i] for i in chosen],
        permutations=PERMUTATIONS,
        level_g=level_g,
        seed=seed,
    )
    mean_p = null_ps.mean(axis=1)
    low, high = np.quantile(mean_p, [0.025, 0.975])
    reached = (mean_p >= auroc_s.iloc[chosen].mean()).sum()
    return float(mean_p.mean()), float(low), float(high), float((1 + reached) / (1 + PERMUTATIONS))
