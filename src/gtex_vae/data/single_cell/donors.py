"""Donors and their cell types mapped to a model's genes and split by donor, for contrastive alignment.

Shapes: ``n`` donors, ``a`` donor samples, ``s`` cell-type profiles, ``c`` cell types, ``g`` the model's genes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gtex_vae.data.genes.mapping import MIN_OVERLAP, map_genes
from gtex_vae.data.single_cell.pseudobulk import Pseudobulk
from gtex_vae.data.splits import SPLITS, check_split, split_samples
from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import DataError
from gtex_vae.files import write_beside

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DonorCells:
    """Standardized expression of donors and of their cell types.

    Attributes
    ----------
    donors, cell_types
        Names; only donors with a profile.
    x_ag, owner_a, mixture_a
        Donor samples, their donor, and the number of the mixture from 1, or 0 for measured samples. The first n samples
        are the donors' measured pseudobulk in order.
    x_sg, owner_s, type_s
        Cell-type profiles, their donor and type.
    proportion_nc
        Measured shares of the cell types.
    split_n
        ``train``, ``val`` or ``test`` of each donor.
    report
        Report of the gene mapping.
    """

    donors: list[str]
    cell_types: list[str]
    x_ag: np.ndarray
    owner_a: np.ndarray
    mixture_a: np.ndarray
    x_sg: np.ndarray
    owner_s: np.ndarray
    type_s: np.ndarray
    proportion_nc: np.ndarray
    split_n: np.ndarray
    report: dict[str, Any]

    def write_splits(self, path: Path) -> None:
        """Write sample, donor and split of the donors' own samples as CSV."""
        table = pd.DataFrame({"sample": self.donors, "donor": self.donors, "split": self.split_n})
        with write_beside(path) as temporary:
            table.to_csv(temporary, index=False)


def donor_cells(
    made: Pseudobulk,
    scaler: Standardizer,
    *,
    gene_ids: Sequence[str],
    gene_names: Sequence[str],
    unit: str,
    min_overlap: float = MIN_OVERLAP,
    val: float = 0.15,
    test: float = 0.25,
    split_seed: int = 0,
    known: Mapping[str, str] | None = None,
    held_out: bool = False,
) -> DonorCells:
    """Map donors and cell types to a model's genes and split them by donor.

    Parameters
    ----------
    made
        Pseudobulk with mixtures.
    scaler, gene_ids, gene_names, unit
        Of the model.
    min_overlap
        Minimum fraction of the model's genes in the data.
    val, test, split_seed
        Fractions of donors to hold out, and the seed of the split.
    known
        Split of donors that the model was trained on or held out. They keep it, so that no training donor becomes a
        test donor.
    held_out
        Assign all donors to the test split.

    Raises
    ------
    DataError
        Too few genes are present, or no donor has a profile.
    SplitError
        Too few donors.
    """
    samples, profiles = made.donors, made.profiles
    have_profile = set(profiles.obs["donor"].astype(str))
    measured = samples.obs["donor"][samples.obs["kind"].to_numpy() == "measured"]
    donors = [donor for donor in measured.astype(str) if donor in have_profile]
    if not donors:
        raise DataError("no donor has a cell-type profile: lower alignment.pseudobulk.min_cells")
    number = {donor: n for n, donor in enumerate(donors)}
    order, owner_a = _ordered_samples(samples, number)
    cell_types = [str(name) for name in made.proportions.columns[2:]]
    type_number = {name: c for c, name in enumerate(cell_types)}
    mean_g = scaler.center_g.cpu().numpy()

    def mapped(adata: AnnData) -> tuple[np.ndarray, dict[str, Any]]:
        found = map_genes(
            np.asarray(adata.X, np.float32), list(adata.var_names), _names(adata), gene_ids,
            mean_g=mean_g, unit=unit, model_gene_names=gene_names, min_overlap=min_overlap,
        )  # fmt: skip
        # copied, because the mapped matrix may be the data's own
        return scaler.apply_(np.array(found.x_ng, np.float32, order="C")), found.report

    x_ag, report = mapped(samples)
    x_sg, _ = mapped(profiles)
    return DonorCells(
        donors=donors,
        cell_types=cell_types,
        x_ag=x_ag[order],
        owner_a=owner_a,
        mixture_a=pd.Series(owner_a).groupby(owner_a).cumcount().to_numpy(),
        x_sg=x_sg,
        owner_s=profiles.obs["donor"].astype(str).map(number).to_numpy(int),
        type_s=profiles.obs["cell_type"].astype(str).map(type_number).to_numpy(int),
        proportion_nc=made.proportions.iloc[order[: len(donors)], 2:].to_numpy(float),
        split_n=np.full(len(donors), "test")
        if held_out
        else _split(donors, known or {}, val=val, test=test, seed=split_seed),
        report=report,
    )


def _ordered_samples(samples: AnnData, number: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of measured samples, then of mixtures, of the numbered donors; and the donor of each row."""
    kind = samples.obs["kind"].to_numpy().astype(str)
    owner = np.array([number.get(str(donor), -1) for donor in samples.obs["donor"].astype(object)], dtype=int)
    rows = [np.flatnonzero((kind == name) & (owner >= 0)) for name in ("measured", "mixture")]
    order = np.concatenate(rows)
    return order, owner[order]


def combine_with_training_donors(own: DonorCells, new: DonorCells) -> DonorCells:
    """Combine the training donors of one data set with all donors of another as test donors.

    Skips cell types that ``own`` does not have, donors with no other cell types, and training donors of ``own``, with
    warnings.

    Raises
    ------
    DataError
        No donor is left.
    """
    train = own.split_n == "train"
    type_c = np.array(
        [own.cell_types.index(name) if name in own.cell_types else -1 for name in new.cell_types]
    )
    unknown = [name for name, c in zip(new.cell_types, type_c, strict=True) if c < 0]
    if unknown:
        log.warning("skipping %d cell types that the alignment was not trained on: %s",
                    len(unknown), ", ".join(unknown[:5]))  # fmt: skip
    trained_on = np.isin(new.donors, np.array(own.donors)[train])
    if trained_on.any():
        log.warning("skipping %d donors that the alignment was trained on", trained_on.sum())
    kept_s = type_c[new.type_s] >= 0
    stays = ~trained_on & (np.bincount(new.owner_s[kept_s], minlength=len(new.donors)) > 0)
    if not stays.any():
        raise DataError(
            "no donor to measure on: every donor was trained on, or has only cell types unknown to the alignment"
        )
    shares_nc = np.zeros((len(new.donors), len(own.cell_types)))
    shares_nc[:, type_c[type_c >= 0]] = new.proportion_nc[:, type_c >= 0]
    all_s = np.ones(len(own.type_s), dtype=bool)
    parts = [
        (own, train, all_s, own.type_s, own.proportion_nc),
        (new, stays, kept_s, type_c[new.type_s], shares_nc),
    ]
    columns: dict[str, list[np.ndarray]] = {}
    offset = 0
    for cells, chosen_n, known_s, type_s, proportion_nc in parts:
        number_n = np.where(chosen_n, offset + np.cumsum(chosen_n) - 1, -1)
        offset += int(chosen_n.sum())
        in_a, in_s = chosen_n[cells.owner_a], chosen_n[cells.owner_s] & known_s
        found = {
            "donors": np.array(cells.donors)[chosen_n], "x_ag": cells.x_ag[in_a], "owner_a": number_n[cells.owner_a[in_a]],
            "mixture_a": cells.mixture_a[in_a], "x_sg": cells.x_sg[in_s], "owner_s": number_n[cells.owner_s[in_s]],
            "type_s": type_s[in_s], "proportion_nc": proportion_nc[chosen_n],
            "split_n": np.full(chosen_n.sum(), "train" if cells is own else "test"),
        }  # fmt: skip
        for name, column in found.items():
            columns.setdefault(name, []).append(column)
    whole: dict[str, Any] = {name: np.concatenate(column) for name, column in columns.items()}
    order = np.argsort(whole["mixture_a"] > 0, kind="stable")  # measured samples come first
    whole |= {name: whole[name][order] for name in ("x_ag", "owner_a", "mixture_a")}
    whole["donors"] = whole["donors"].tolist()
    return DonorCells(cell_types=own.cell_types, report=new.report, **whole)


def _names(adata: AnnData) -> list[str] | None:
    """Return the gene symbols, or None."""
    return adata.var["gene_name"].astype(str).tolist() if "gene_name" in adata.var else None


def _split(donors: list[str], known: Mapping[str, str], *, val: float, test: float, seed: int) -> np.ndarray:
    """Split donors; those in ``known`` keep their split."""
    split_n = np.array([known.get(donor, "") for donor in donors], dtype=object)
    new = np.flatnonzero(split_n == "")
    if len(new) >= len(SPLITS):
        names = [donors[n] for n in new]
        split_n[new] = split_samples(names, ["all"] * len(new), val=val, test=test, seed=seed)
    else:
        split_n[new] = "train"
    check_split(split_n.astype(str), donors, by="donor")
    return split_n.astype(str)
