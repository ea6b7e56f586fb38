"""Groups of cells by donor, cell type and random half, and their sums as tables."""

# i cells, s groups (a donor's cells of one type, in one half), d donors, c cell types, g genes

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gtex_vae.data.annotation_columns import OBS, convert_types, rename_columns, to_text
from gtex_vae.errors import DataError


@dataclass(frozen=True)
class Grouping:
    """Group of each cell; only groups that occur are numbered."""

    donors: list[str]
    cell_types: list[str]
    donor_i: np.ndarray  # -1 if unknown
    type_i: np.ndarray  # -1 if unknown
    group_i: np.ndarray  # -1 for cells without a donor
    key_s: np.ndarray  # (half * donors + donor) * (types + 1) + type; type n_types: unknown


def group_cells(
    donor: pd.Series[Any], cell_type: pd.Series[Any], rng: np.random.Generator | None, where: str
) -> Grouping:
    """Group cells by donor and type; with ``rng`` also by random half.

    Raises
    ------
    DataError
        No cell has a donor.

    Examples
    --------
    >>> found = group_cells(pd.Series(["a", "b", None]), pd.Series(["T", None, "T"]), None, "AnnData")
    >>> found.group_i.tolist(), found.key_s.tolist()
    ([0, 1, -1], [0, 3])
    """
    donor_i, donors = _codes(donor)
    type_i, types = _codes(cell_type)
    if not donors:
        raise DataError(f"{where}: no cell has a donor in {donor.name}")
    n_types = len(types) + 1
    pair_i = np.where(donor_i < 0, -1, donor_i * n_types + np.where(type_i < 0, len(types), type_i))
    half_i = np.zeros(len(pair_i), np.int64) if rng is None else _halves(pair_i, rng)
    key_i = np.where(pair_i < 0, -1, half_i * len(donors) * n_types + pair_i)
    key_s, group_i = np.unique(key_i, return_inverse=True)
    if key_s[0] < 0:
        key_s, group_i = key_s[1:], group_i - 1
    return Grouping(donors, types, donor_i, type_i, group_i, key_s)


@dataclass(frozen=True)
class Groups:
    """Sums of all groups of cells, with donor, type and half of each group."""

    sum_sg: np.ndarray
    n_cells_s: np.ndarray
    half_s: np.ndarray
    donor_s: np.ndarray
    type_s: np.ndarray  # n_types if unknown
    n_donors: int
    n_types: int

    @classmethod
    def of(cls, grouping: Grouping, sum_sg: np.ndarray) -> Groups:
        """Decode the donor, type and half of each row."""
        n_donors, n_types = len(grouping.donors), len(grouping.cell_types)
        rest_s, type_s = np.divmod(grouping.key_s, n_types + 1)
        half_s, donor_s = np.divmod(rest_s, n_donors)
        group_i = grouping.group_i
        n_cells_s = np.bincount(group_i[group_i >= 0], minlength=len(grouping.key_s))
        return cls(sum_sg, n_cells_s, half_s, donor_s, type_s, n_donors, n_types)

    def per_donor(self) -> tuple[np.ndarray, np.ndarray]:
        """Sum each donor's cells of the first half, float64, and count them."""
        first = np.flatnonzero(self.half_s == 0)
        total = np.zeros((self.n_donors, self.sum_sg.shape[1]))
        for s in first:
            total[self.donor_s[s]] += self.sum_sg[s]
        return total, np.bincount(self.donor_s[first], self.n_cells_s[first], self.n_donors)

    def table(self, half: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of cells of each donor and type, and their group (-1 if there are no cells)."""
        n_cells = np.zeros((self.n_donors, self.n_types), np.int64)
        group = np.full((self.n_donors, self.n_types), -1)
        wanted = np.flatnonzero((self.half_s == half) & (self.type_s < self.n_types))
        n_cells[self.donor_s[wanted], self.type_s[wanted]] = self.n_cells_s[wanted]
        group[self.donor_s[wanted], self.type_s[wanted]] = wanted
        return n_cells, group

    def measured_shares(self) -> np.ndarray:
        """Compute the share of each type among a donor's cells of known type."""
        n_cells_dc = self.table(0)[0].astype(float)
        total = n_cells_dc.sum(axis=1, keepdims=True)
        return np.divide(n_cells_dc, total, out=np.zeros_like(n_cells_dc), where=total > 0)


def donor_table(
    obs: pd.DataFrame, donor_i: np.ndarray, donors: list[str], tissue: str | None = None
) -> pd.DataFrame:
    """Make a table with one row per donor, from the columns that are constant within every donor.

    Parameters
    ----------
    obs
        One row per cell.
    donor_i
        Donor of each cell, -1 if unknown.
    donors
        Names of the donors.
    tissue
        Tissue of cells for which ``obs`` has none.

    Returns
    -------
    DataFrame
        Columns with this package's names and types: ``donor``, ``tissue``, ``tissue_group``, ``sex``, ``age``, then the
        others.
    """
    kept = donor_i >= 0
    by_donor = obs[kept].groupby(donor_i[kept], sort=True)
    constant = [name for name in obs.columns if by_donor[name].nunique(dropna=True).max() <= 1]
    found = by_donor[constant].first() if constant else pd.DataFrame(index=range(len(donors)))
    table = rename_columns(to_text(found)).drop(columns="donor", errors="ignore")
    if tissue is not None:
        own = table.get("tissue", pd.Series(None, index=table.index, dtype=object))
        table["tissue"] = own.where(own.notna(), tissue)
    for name in OBS[1:]:
        if name not in table:
            table[name] = pd.Series(None, index=table.index, dtype=object)
    table, _ = convert_types(table)
    table.insert(0, "donor", pd.Series(pd.Categorical(donors, categories=donors), index=table.index))
    return table[[*OBS, *(name for name in table.columns if name not in OBS)]]


def _codes(column: pd.Series[Any]) -> tuple[np.ndarray, list[str]]:
    """Return the integer code of each cell, -1 if missing, and the sorted names."""
    text = column.astype("string").str.strip()
    text = text.mask(text.isin(["", "nan", "NA", "None"]))
    codes, names = pd.factorize(text, sort=True)
    # codes of small categories have 8 bits, which would overflow in products
    return codes.astype(np.int64), [str(name) for name in names]


def _halves(pair_i: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Divide the cells of each donor and type into two random halves of equal size (up to one cell)."""
    order = np.lexsort((rng.random(len(pair_i)), pair_i))
    first = np.concatenate([[True], np.diff(pair_i[order]) != 0])
    start = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    odd_half = rng.integers(2, size=len(order))[start]
    half_i = np.empty(len(pair_i), np.int64)
    half_i[order] = (np.arange(len(order)) - start + odd_half) % 2
    return half_i
