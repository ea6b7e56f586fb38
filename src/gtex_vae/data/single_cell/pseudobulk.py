"""Pseudobulk of donors, cell-type profiles and mixtures, from single cells."""

# i cells, d donors, c cell types, s groups (a donor's cells of one type), g genes

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

from gtex_vae.data.annotation_columns import CELL_TYPE_NAMES, COLUMN_NAMES
from gtex_vae.data.genes.harmonise import harmonise
from gtex_vae.data.genes.table import bundled_genes
from gtex_vae.data.single_cell.cells import Cells, find_column, open_cells
from gtex_vae.data.single_cell.groups import Grouping, Groups, donor_table, group_cells
from gtex_vae.data.single_cell.mixtures import Mixtures, Proportions, mix_groups
from gtex_vae.data.single_cell.sums import sum_groups, to_log2_million
from gtex_vae.errors import ConfigError, DataError

if TYPE_CHECKING:
    from anndata import AnnData

UNIT = "log2(TPM+1)"


@dataclass(frozen=True)
class Pseudobulk:
    """Result of `make_pseudobulk`.

    Parameters
    ----------
    donors
        Samples x genes, log2(TPM+1): the sum of each donor's cells (``obs["kind"]`` is ``measured``), then mixtures
        (``mixture``, or ``pooled`` if they mix the cells of all donors and have no donor).
    profiles
        Sum of each donor's cells of each type; ``obs`` has ``donor`` and ``cell_type``.
    proportions
        Indexed by the samples of ``donors``: ``donor``, ``kind``, and the share of each cell type.
    mixing
        Seed, settings and counts, for JSON.
    """

    donors: AnnData
    profiles: AnnData
    proportions: pd.DataFrame
    mixing: dict[str, Any]


def make_pseudobulk(
    source: AnnData | Path | str,
    *,
    donor: str | None = None,
    cell_type: str | None = None,
    layer: str | None = None,
    tissue: str | None = None,
    method: Literal["sum", "mean"] = "sum",
    min_cells: int = 10,
    disjoint: bool = False,
    mixtures_per_donor: int = 1,
    proportions: Proportions = "dirichlet",
    concentration: float = 1.0,
    pooled: bool = False,
    seed: int = 0,
    rows: int | None = None,
) -> Pseudobulk:
    """Make pseudobulk, cell-type profiles and mixtures from single cells, reading the cells once in blocks.

    Parameters
    ----------
    source
        AnnData of counts, dense or sparse, or its path (.h5ad, .zarr).
    donor, cell_type
        Columns of ``obs``; guessed from common names if None. Cells without a donor are skipped; cells without a type
        are part of their donor's pseudobulk only.
    layer
        Layer of the counts, or ``raw``; X if None.
    tissue
        Tissue of cells for which ``obs`` has none.
    method
        ``sum``: counts are summed, then scaled to a million. ``mean``: each cell is scaled to a million first.
    min_cells
        Minimum number of cells of a profile.
    disjoint
        Divide each donor's cells into random halves: one for donors and mixtures, the other for profiles. Otherwise
        both contain the same counting noise, which alone suffices to match them.
    mixtures_per_donor, proportions, concentration
        See `gtex_vae.data.single_cell.mixtures.draw_proportions`. Types with fewer than ``min_cells`` are not mixed.
    pooled
        Mix the cells of all donors instead of each donor's own; the number of mixtures is the same.
    seed
        Seed of mixtures and halves.
    rows
        Cells per block; does not change the result.

    Raises
    ------
    DataError
        A column is missing, no cell has a donor, the values are not counts or all zero, or no gene is known.
    ConfigError
        An argument is out of range.

    Examples
    --------
    >>> from gtex_vae.data.simulate.cells import simulate_singlecell
    >>> made = make_pseudobulk(simulate_singlecell(n_donors=3, n_genes=60))
    >>> made.donors.shape, made.profiles.obs["cell_type"].nunique()
    ((6, 60), 8)
    """
    _check_arguments(method, min_cells, mixtures_per_donor)
    half_rng, mix_rng = (np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(2))
    with open_cells(source, layer=layer) as cells:
        columns = {
            "donor": find_column(cells, donor, COLUMN_NAMES["donor"], "donor"),
            "cell_type": find_column(cells, cell_type, CELL_TYPE_NAMES, "cell_type"),
        }
        grouping = group_cells(
            cells.obs[columns["donor"]],
            cells.obs[columns["cell_type"]],
            half_rng if disjoint else None,
            cells.where,
        )
        sum_sg = sum_groups(cells, grouping.group_i, len(grouping.key_s), method=method, rows=rows)
        if not sum_sg.any():
            others = ", ".join(("X", *cells.layers))
            raise DataError(
                f"{cells.where}: every count is zero; give layer= of the counts (there are {others})"
            )
        sum_sg, var, genes_report = _one_column_per_gene(cells, sum_sg)
        donor_obs = donor_table(
            cells.obs.drop(columns=list(set(columns.values()))), grouping.donor_i, grouping.donors, tissue
        )
        where = cells.where
    groups, types = Groups.of(grouping, sum_sg), grouping.cell_types
    mixtures = mix_groups(
        groups, types, min_cells, mixtures_per_donor, proportions, concentration, pooled, mix_rng
    )
    samples, shares = _samples(groups, grouping, donor_obs, mixtures, var)
    profiles, profile_report = _profiles(groups, donor_obs, grouping.donors, types, min_cells, var)
    mixing = {
        "seed": seed,
        "method": method,
        "min_cells": min_cells,
        "disjoint": disjoint,
        "mixtures_per_donor": mixtures_per_donor,
        "proportions": proportions if isinstance(proportions, str) else dict(proportions),
        "concentration": concentration,
        "pooled": pooled,
        "donors": len(grouping.donors),
        "cell_types": types,
        "mixtures": len(mixtures.donor_k),
        "profiles": profiles.n_obs,
        **profile_report,
        "cells": int((grouping.donor_i >= 0).sum()),
        "cells_without_donor": int((grouping.donor_i < 0).sum()),
        "cells_without_type": int(((grouping.donor_i >= 0) & (grouping.type_i < 0)).sum()),
        "columns": columns,
        "source": where,
        "genes": genes_report,
    }
    return Pseudobulk(samples, profiles, shares, mixing)


def _check_arguments(method: str, min_cells: int, mixtures_per_donor: int) -> None:
    """Raise if an argument is out of range."""
    for key, value, least in (("min_cells", min_cells, 1), ("mixtures_per_donor", mixtures_per_donor, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{key}={value!r}: give a whole number of {least} or more")
    if method not in ("sum", "mean"):
        raise ConfigError(f"method={method!r}: give sum or mean")


def _one_column_per_gene(cells: Cells, sum_sg: np.ndarray) -> tuple[np.ndarray, pd.DataFrame, dict[str, Any]]:
    """Merge the columns of each gene, in the memory of ``sum_sg``."""
    table = bundled_genes()
    # harmonising a diagonal matrix shows which columns form each gene
    total_c = sum_sg.sum(axis=0, dtype=np.float64) + 1.0
    made = harmonise(
        sp.csr_array(sp.diags_array(total_c.astype(np.float32))),
        cells.gene_ids,
        cells.gene_names,
        table,
        unit="counts",
    )
    part_cg = (sp.csr_array(made.x_ng) > 0).astype(sum_sg.dtype)
    n_genes = part_cg.shape[1]
    for start in range(0, len(sum_sg), 256):
        rows = slice(start, start + 256)
        sum_sg[rows, :n_genes] = sum_sg[rows] @ part_cg
    var = made.var.drop(columns="label")
    if cells.biotypes is not None:
        own = pd.Series(cells.biotypes, index=cells.gene_ids)
        own = own[~own.index.duplicated()].reindex(made.var["label"], fill_value="").set_axis(var.index)
        var["biotype"] = var["biotype"].where(var["biotype"] != "", own)
    var["biotype"] = var["biotype"].astype("category")
    return sum_sg[:, :n_genes], var, made.report


def _samples(
    groups: Groups, grouping: Grouping, donor_obs: pd.DataFrame, mixtures: Mixtures, var: pd.DataFrame
) -> tuple[AnnData, pd.DataFrame]:
    """Make the samples, measured ones first, and the table of their proportions."""
    donors, n_mixtures = grouping.donors, len(mixtures.donor_k)
    measured_dg, n_cells_d = groups.per_donor()
    ids = pd.Index([*donors, *_mixture_ids(donors, mixtures.donor_k)], name="sample")
    obs = donor_obs.iloc[np.append(np.arange(len(donors)), mixtures.donor_k)].set_axis(ids)
    kind = np.append(np.full(len(donors), "measured"), np.full(n_mixtures, mixtures.kind))
    obs.loc[kind == "pooled", :] = None
    obs["kind"] = pd.Categorical(kind)
    obs["n_cells"] = np.append(n_cells_d, mixtures.n_cells_k).astype(np.int64)
    obs["n_counts"] = np.append(measured_dg.sum(axis=1, dtype=np.float64), np.full(n_mixtures, np.nan))
    shares = pd.DataFrame(
        np.concatenate([groups.measured_shares(), mixtures.share_kc]), ids, grouping.cell_types
    )
    shares.insert(0, "donor", obs["donor"].astype(object))
    shares.insert(1, "kind", kind)
    x_ng = np.concatenate([to_log2_million(measured_dg), to_log2_million(mixtures.x_kg)])
    return _anndata(x_ng, obs, var), shares


def _mixture_ids(donors: list[str], donor_k: np.ndarray) -> list[str]:
    """Return ``<donor>_mix1``, ``<donor>_mix2``, ..."""
    number_k = pd.Series(donor_k).groupby(donor_k).cumcount() + 1
    return [f"{donors[d]}_mix{number}" for d, number in zip(donor_k, number_k, strict=True)]


def _profiles(
    groups: Groups,
    donor_obs: pd.DataFrame,
    donors: list[str],
    types: list[str],
    min_cells: int,
    var: pd.DataFrame,
) -> tuple[AnnData, dict[str, int]]:
    """Make the profiles of donors' cell types with enough cells, from the second half if there are two."""
    mine = (groups.half_s == groups.half_s.max()) & (groups.type_s < groups.n_types)
    kept = np.flatnonzero(mine & (groups.n_cells_s >= min_cells))
    donor_s, type_s = groups.donor_s[kept], groups.type_s[kept]
    obs = donor_obs.iloc[donor_s].set_axis(
        pd.Index([f"{donors[d]}|{types[c]}" for d, c in zip(donor_s, type_s, strict=True)], name="sample")
    )
    obs.insert(
        1, "cell_type", pd.Series(pd.Categorical(np.array(types)[type_s], categories=types), index=obs.index)
    )
    obs["n_cells"] = groups.n_cells_s[kept].astype(np.int64)
    x_ng = groups.sum_sg if len(kept) == len(groups.sum_sg) else groups.sum_sg[kept]
    obs["n_counts"] = x_ng.sum(axis=1, dtype=np.float64)
    report = {
        "profiles_below_min_cells": int(mine.sum()) - len(kept),
        "donors_without_profile": len(donors) - len(np.unique(donor_s)),
    }
    return _anndata(to_log2_million(x_ng), obs, var), report


def _anndata(x_ng: np.ndarray, obs: pd.DataFrame, var: pd.DataFrame) -> AnnData:
    """Make an AnnData with the unit in ``uns``."""
    import anndata

    unit = {"unit": UNIT, "note": "counts scaled to a million, no gene lengths"}
    return anndata.AnnData(x_ng, obs=obs, var=var.copy(), uns={"expression": unit})
