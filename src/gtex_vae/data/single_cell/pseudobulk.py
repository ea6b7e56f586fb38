"""From single cells to bulk-like samples: donors, their cell types, and new mixtures of these."""

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
from gtex_vae.data.single_cell.groups import Groups, donor_table, group_cells
from gtex_vae.data.single_cell.mixtures import Proportions, draw_proportions, mix
from gtex_vae.data.single_cell.sums import sum_groups, to_log2_million
from gtex_vae.errors import ConfigError, DataError

if TYPE_CHECKING:
    from anndata import AnnData

UNIT = "log2(TPM+1)"


@dataclass(frozen=True)
class Pseudobulk:
    """What single cells were made into.

    Parameters
    ----------
    donors
        Samples x genes, log2(TPM+1): each donor's cells together (``obs["kind"]`` is ``measured``), then mixtures
        (``mixture``; ``pooled`` where they are of all donors' cells, and then without a donor).
    profiles
        Each donor's cells of each type; ``obs`` has ``donor`` and ``cell_type``.
    proportions
        Index the samples of ``donors``; ``donor``, ``kind``, and the share of each cell type.
    mixing
        Seed, settings and counts, ready for JSON.
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
    """Make pseudobulk, cell-type profiles and new mixtures of single cells, reading the cells once, in blocks.

    Parameters
    ----------
    source
        AnnData of counts, or its path (.h5ad, .zarr), dense or sparse.
    donor, cell_type
        Columns of ``obs``; guessed from common names when None. Cells without a donor are left out, cells without a
        type belong to their donor only.
    layer
        Layer of the counts, or ``raw``; X if None.
    tissue
        Name of the tissue where ``obs`` has none.
    method
        ``sum``: counts are added up, then scaled to a million. ``mean``: each cell is scaled to a million first.
    min_cells
        Cells that a profile must have.
    disjoint
        Divide each donor's cells at random: donors and mixtures are made of one half, profiles of the other. Otherwise
        both hold the same counting noise, which alone is enough to match them.
    mixtures_per_donor, proportions, concentration
        See `gtex_vae.data.single_cell.mixtures.draw_proportions`. Types below ``min_cells`` are not mixed.
    pooled
        Mix the cells of all donors together instead of the donor's own; as many mixtures in total.
    seed
        Of mixtures and halves.
    rows
        Cells in a block; it does not change the result.

    Raises
    ------
    DataError
        A column is missing, no cell has a donor, the values are no counts or all zero, or no gene is known.
    ConfigError
        An argument is out of range.

    Examples
    --------
    >>> from gtex_vae.data.simulate.cells import simulate_singlecell
    >>> made = make_pseudobulk(simulate_singlecell(n_donors=3, n_genes=60))
    >>> made.donors.shape, made.profiles.obs["cell_type"].nunique()
    ((6, 60), 8)
    """
    for key, value, least in (("min_cells", min_cells, 1), ("mixtures_per_donor", mixtures_per_donor, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{key}={value!r}: give a whole number of {least} or more")
    if method not in ("sum", "mean"):
        raise ConfigError(f"method={method!r}: give sum or mean")
    half_rng, mix_rng = (np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(2))
    with open_cells(source, layer=layer) as cells:
        donor_column = find_column(cells, donor, COLUMN_NAMES["donor"], "donor")
        type_column = find_column(cells, cell_type, CELL_TYPE_NAMES, "cell_type")
        grouping = group_cells(
            cells.obs[donor_column], cells.obs[type_column], half_rng if disjoint else None, cells.where
        )
        donors, types = grouping.donors, grouping.cell_types
        sum_sg = sum_groups(cells, grouping.group_i, len(grouping.key_s), method=method, rows=rows)
        if not sum_sg.any():
            others = ", ".join(("X", *cells.layers))
            raise DataError(
                f"{cells.where}: every count is zero; give layer= of the counts (there are {others})"
            )
        sum_sg, var, genes_report = _one_column_per_gene(cells, sum_sg)
        donor_obs = donor_table(
            cells.obs.drop(columns=list({donor_column, type_column})), grouping.donor_i, donors, tissue
        )
        where = cells.where
    groups = Groups.of(grouping, sum_sg)

    shares_kc, kind_k, donor_k, x_kg, cells_k = _mixtures(
        groups, types, min_cells, mixtures_per_donor, proportions, concentration, pooled, mix_rng
    )
    measured_dg, n_cells_d = groups.per_donor()
    counts_d = measured_dg.sum(axis=1, dtype=np.float64)
    ids = [*donors, *_mixture_ids(donors, donor_k)]
    obs = donor_obs.iloc[np.append(np.arange(len(donors)), donor_k)].set_axis(pd.Index(ids, name="sample"))
    kind = np.append(np.full(len(donors), "measured"), kind_k)
    obs.loc[kind == "pooled", :] = None
    obs["kind"] = pd.Categorical(kind)
    obs["n_cells"] = np.append(n_cells_d, cells_k).astype(np.int64)
    obs["n_counts"] = np.append(counts_d, np.full(len(kind_k), np.nan))
    shares = pd.DataFrame(
        np.concatenate([groups.measured_shares(), shares_kc]), index=obs.index, columns=types
    )
    shares.insert(0, "donor", obs["donor"].astype(object))
    shares.insert(1, "kind", kind)
    profiles, profile_report = _profiles(groups, donor_obs, donors, types, min_cells, var)
    mixing = {
        "seed": seed,
        "method": method,
        "min_cells": min_cells,
        "disjoint": disjoint,
        "mixtures_per_donor": mixtures_per_donor,
        "proportions": proportions if isinstance(proportions, str) else dict(proportions),
        "concentration": concentration,
        "pooled": pooled,
        "donors": len(donors),
        "cell_types": types,
        "mixtures": len(kind_k),
        "profiles": profiles.n_obs,
        **profile_report,
        "cells": int((grouping.donor_i >= 0).sum()),
        "cells_without_donor": int((grouping.donor_i < 0).sum()),
        "cells_without_type": int(((grouping.donor_i >= 0) & (grouping.type_i < 0)).sum()),
        "columns": {"donor": donor_column, "cell_type": type_column},
        "source": where,
        "genes": genes_report,
    }
    x_ng = np.concatenate([to_log2_million(measured_dg), to_log2_million(x_kg)])
    return Pseudobulk(_anndata(x_ng, obs, var), profiles, shares, mixing)


def _one_column_per_gene(cells: Cells, sum_sg: np.ndarray) -> tuple[np.ndarray, pd.DataFrame, dict[str, Any]]:
    """Sums of the harmonised genes, in the memory of the sums of the columns."""
    table = bundled_genes()
    # a diagonal of the columns' totals shows which columns each gene is made of
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


def _mixtures(
    groups: Groups,
    types: list[str],
    min_cells: int,
    per_donor: int,
    proportions: Proportions,
    concentration: float,
    pooled: bool,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shares, kind, donor, linear expression and number of cells behind each mixture."""
    n_cells_dc, group_dc = groups.table(0)
    n_genes = groups.sum_sg.shape[1]
    if pooled:
        pool_cg = np.zeros((len(types), n_genes))
        for s in np.flatnonzero((groups.half_s == 0) & (groups.type_s < len(types))):
            pool_cg[groups.type_s[s]] += groups.sum_sg[s]
        pool_c = n_cells_dc.sum(axis=0)
        n_cells_dc = np.broadcast_to(pool_c, n_cells_dc.shape)
    shares_dkc = draw_proportions(
        n_cells_dc >= min_cells,
        types,
        per_donor,
        proportions=proportions,
        concentration=concentration,
        measured_dc=groups.measured_shares(),
        rng=rng,
    )
    donor_k, number_k = np.nonzero(shares_dkc.any(axis=2))
    shares_kc = shares_dkc[donor_k, number_k]
    x_kg = np.zeros((len(donor_k), n_genes))
    for d in np.unique(donor_k):
        own = donor_k == d
        if pooled:
            x_kg[own] = mix(shares_kc[own], pool_cg, pool_c)
            continue
        present = np.flatnonzero(group_dc[d] >= 0)
        x_kg[own] = mix(
            shares_kc[own][:, present], groups.sum_sg[group_dc[d, present]], n_cells_dc[d, present]
        )
    n_cells_k = ((shares_kc > 0) * n_cells_dc[donor_k]).sum(axis=1)
    return shares_kc, np.full(len(donor_k), "pooled" if pooled else "mixture"), donor_k, x_kg, n_cells_k


def _mixture_ids(donors: list[str], donor_k: np.ndarray) -> list[str]:
    """``<donor>_mix1`` and so on."""
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
    """Profiles of the donors' cell types that have enough cells, in the second half where there are two."""
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
    """Make the AnnData of CONTRACT."""
    import anndata

    unit = {"unit": UNIT, "note": "counts scaled to a million, no gene lengths"}
    return anndata.AnnData(x_ng, obs=obs, var=var.copy(), uns={"expression": unit})
