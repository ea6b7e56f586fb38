"""Cell types, donors and counts of the simulated single cells."""

# i cells, d donors, g genes, c cell types, k factors, m modules, e covariates

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from gtex_vae.data.simulate.cohort import DETAILS, GROUPS
from gtex_vae.data.simulate.expression import COVARIATES, SHARED_CELL_TYPES, Genes, draw_activities
from gtex_vae.data.simulate.genes import check_number, check_whole, default_modules, simulate_genes

# name, relative frequency, lineage; most frequent first
CELL_TYPES: tuple[tuple[str, float, str], ...] = (
    ("CD4 Naive", 14, "T"),
    ("CD14 Mono", 12, "myeloid"),
    ("NK", 11, "NK"),
    ("CD4 TCM", 10, "T"),
    ("CD8 TEM", 9, "T"),
    ("B naive", 6, "B"),
    ("CD8 Naive", 5, "T"),
    ("CD4 TEM", 3.5, "T"),
    ("CD16 Mono", 3.5, "myeloid"),
    ("B memory", 3, "B"),
    ("CD8 TCM", 2.5, "T"),
    ("gdT", 2.5, "T"),
    ("Treg", 2.2, "T"),
    ("MAIT", 2.2, "T"),
    ("B intermediate", 2, "B"),
    ("cDC2", 1.6, "myeloid"),
    ("CD4 CTL", 1.4, "T"),
    ("NK CD56bright", 1.4, "NK"),
    ("Platelet", 1.2, "other"),
    ("dnT", 0.9, "T"),
    ("pDC", 0.9, "myeloid"),
    ("Plasmablast", 0.7, "B"),
    ("HSPC", 0.7, "other"),
    ("NK Proliferating", 0.6, "NK"),
    ("CD4 Proliferating", 0.5, "T"),
    ("ILC", 0.4, "NK"),
    ("Erythroid", 0.4, "other"),
    ("CD8 Proliferating", 0.4, "T"),
    ("cDC1", 0.3, "myeloid"),
)
LINEAGES = tuple(dict.fromkeys(lineage for *_, lineage in CELL_TYPES))
# cell type of the bulk simulator from which each lineage is derived
ANCESTOR = {
    "T": "lymphocyte",
    "NK": "lymphocyte",
    "B": "lymphocyte",
    "myeloid": "macrophage",
    "other": "erythroid",
}
TISSUE, TISSUE_GROUP = "Whole Blood", "Blood"
POOL = 14  # donors in one batch
MINOR_ALLELE = 0.3
WHOLE_NUMBERS = {  # argument: smallest and largest value
    "n_donors": (1, 100_000),
    "n_cell_types": (1, len(CELL_TYPES)),
    "cells_per_donor": (1, 1_000_000),
    "n_genes": (50, 300_000),
    "seed": (0, 2**63 - 1),
    "bulk_seed": (0, 2**63 - 1),
}
NUMBERS = {
    "shared": (0.0, 1.0),
    "genetic": (0.0, 10.0),
    "activity": (0.0, 10.0),
    "composition": (0.1, 1e6),
    "depth": (1.0, 1e6),
    "noise": (0.0, 3.0),
    "overdispersion": (0.0, 10.0),
}


@dataclass(frozen=True)
class CellWorld:
    """Parameters of genes, cell types and donors, from which cells are drawn."""

    var: pd.DataFrame
    genes: Genes
    cell_types: tuple[str, ...]
    log_profile_cg: np.ndarray  # log2 expression of each pure cell type
    size_c: np.ndarray  # RNA content, relative
    allele_cg: np.ndarray  # log2 change per alternative allele
    donors: pd.DataFrame  # index donor; sex, age, batch, truth_age
    proportion_dc: np.ndarray
    n_cells_d: np.ndarray
    activity_dcm: np.ndarray  # of the modules, log2 units per loading
    dosage_dg: np.ndarray  # alternative alleles, int8
    covariate_de: np.ndarray
    depth: float
    noise: float
    overdispersion: float
    seed: int

    def blocks(self) -> Iterator[tuple[int, np.ndarray, sp.csr_matrix]]:
        """Yield the cells of each donor: donor, cell type of each cell, counts."""
        for d in range(len(self.donors)):
            cell_type_i, count_ig = self._cells_of(d)
            yield d, cell_type_i, count_ig

    def _cells_of(self, d: int) -> tuple[np.ndarray, sp.csr_matrix]:
        """Draw the cells of a donor, independent of the donors drawn before."""
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(1, d)))
        genes, n_types = self.genes, len(self.cell_types)
        n_cells_c = rng.multinomial(self.n_cells_d[d], self.proportion_dc[d])
        log_cg = self.log_profile_cg + self.covariate_de[d] @ genes.effect_eg
        log_cg += self.dosage_dg[d] * self.allele_cg
        inside = genes.module_g >= 0
        log_cg[:, inside] += self.activity_dcm[d][:, genes.module_g[inside]] * genes.loading_g[inside]
        log_cg += self.noise * rng.standard_normal((n_types, genes.module_g.size), dtype=np.float32)
        share_cg = np.exp2(log_cg)
        share_cg /= share_cg.sum(axis=1, keepdims=True)
        cell_type_i = rng.permutation(np.repeat(np.arange(n_types), n_cells_c))
        depth_i = self.depth * self.size_c[cell_type_i] * rng.lognormal(-0.08, 0.4, len(cell_type_i))
        rate_ig = share_cg.astype(np.float32)[cell_type_i]
        rate_ig *= depth_i.astype(np.float32)[:, None]
        if self.overdispersion > 0:
            shape = np.float32(1.0 / self.overdispersion)
            rate_ig *= rng.standard_gamma(shape, rate_ig.shape, dtype=np.float32) / shape
        return cell_type_i, sp.csr_matrix(rng.poisson(rate_ig).astype(np.float32))


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Check the arguments of `draw_world`.

    Raises
    ------
    ConfigError
        An argument is out of range.
    """
    for key, limits in WHOLE_NUMBERS.items():
        check_whole(key, arguments[key], *limits)
    for key, bounds in NUMBERS.items():
        check_number(key, arguments[key], *bounds)
    check_whole("n_factors", arguments["n_factors"], 1, arguments["n_genes"] - 1)
    if arguments["n_modules"] is not None:
        check_whole("n_modules", arguments["n_modules"], 1, arguments["n_genes"] // 20)


def draw_world(
    *,
    n_donors: int,
    n_cell_types: int,
    cells_per_donor: int,
    n_genes: int,
    n_modules: int | None,
    n_factors: int,
    shared: float,
    genetic: float,
    activity: float,
    composition: float,
    depth: float,
    noise: float,
    overdispersion: float,
    seed: int,
    bulk_seed: int,
) -> CellWorld:
    """Draw genes, cell types and donors; see `simulate_singlecell` for the arguments."""
    n_modules = default_modules(n_genes) if n_modules is None else n_modules
    var, genes = simulate_genes(n_genes, n_modules, seed=bulk_seed)
    # separate streams, so that cell types do not depend on the donors, nor donors on the number of cells
    type_rng, donor_rng = (
        np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, stream))) for stream in range(2)
    )
    log_profile_cg, specific_cg, size_c = _draw_cell_types(genes, n_cell_types, type_rng)
    typical_c = np.array([frequency for _, frequency, _ in CELL_TYPES[:n_cell_types]])
    donors, covariate_de = _draw_donors(n_donors, donor_rng)
    factor_dk = donor_rng.standard_normal((n_donors, 1, n_factors))
    own_dck = donor_rng.standard_normal((n_donors, n_cell_types, n_factors))
    factor_nk = (np.sqrt(shared) * factor_dk + np.sqrt(1.0 - shared) * own_dck).reshape(-1, n_factors)
    blood = np.full(len(factor_nk), GROUPS.index(TISSUE_GROUP))
    activity_nm, _ = draw_activities(factor_nk, blood, n_modules, donor_rng)
    allele_cg = genetic * (genes.eqtl_g + specific_cg)
    return CellWorld(
        var=var,
        genes=genes,
        cell_types=tuple(name for name, *_ in CELL_TYPES[:n_cell_types]),
        log_profile_cg=log_profile_cg,
        size_c=size_c,
        allele_cg=allele_cg,
        donors=donors,
        proportion_dc=donor_rng.dirichlet(composition * typical_c / typical_c.sum(), n_donors),
        n_cells_d=np.maximum(1, cells_per_donor * donor_rng.lognormal(-0.045, 0.3, n_donors)).astype(int),
        activity_dcm=(activity * activity_nm).reshape(n_donors, n_cell_types, n_modules).astype(np.float32),
        dosage_dg=(donor_rng.binomial(2, MINOR_ALLELE, (n_donors, n_genes)) * allele_cg.any(axis=0)).astype(
            np.int8
        ),
        covariate_de=covariate_de,
        depth=depth,
        noise=noise,
        overdispersion=overdispersion,
        seed=seed,
    )


def describe_cells(world: CellWorld, donor_i: np.ndarray, cell_type_i: np.ndarray) -> pd.DataFrame:
    """Make ``obs`` of cells from their donors and cell types."""
    names, types = world.donors.index.to_numpy(), np.array(world.cell_types, dtype=object)
    obs = world.donors[["sex", "age", "batch"]].iloc[donor_i].reset_index(drop=True)
    obs["donor"] = pd.Categorical(names[donor_i], categories=names)
    obs["cell_type"] = pd.Categorical(types[cell_type_i], categories=types)
    obs["tissue"] = pd.Categorical([TISSUE] * len(obs))
    obs["tissue_group"] = pd.Categorical([TISSUE_GROUP] * len(obs))
    number = pd.Series(donor_i).groupby(donor_i).cumcount() + 1
    obs.index = pd.Index(
        [f"{who}-{at:05d}" for who, at in zip(names[donor_i], number, strict=True)], name="cell"
    )
    return obs[["donor", "cell_type", "sex", "age", "batch", "tissue", "tissue_group"]]


def _draw_cell_types(
    genes: Genes, n_cell_types: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw profiles on a tree of lineages rooted at the bulk's cell types, type-specific eQTL and RNA content."""
    n_genes = genes.module_g.size

    def deviations(rows: int, share: float, scale: float) -> np.ndarray:
        return rng.normal(0.0, scale, (rows, n_genes)) * (rng.random((rows, n_genes)) < share)

    # all types are drawn, so that the first ones do not depend on how many are requested
    ancestor = [len(DETAILS) + SHARED_CELL_TYPES.index(ANCESTOR[lineage]) for lineage in LINEAGES]
    lineage_profile = genes.log_profile_cg[ancestor] + deviations(len(LINEAGES), 0.2, 1.5)
    lineage_of = [LINEAGES.index(lineage) for *_, lineage in CELL_TYPES]
    log_profile_cg = lineage_profile[lineage_of] + deviations(len(CELL_TYPES), 0.12, 1.2)
    specific_cg = deviations(len(CELL_TYPES), 0.05, 0.3)
    linked = genes.sex_linked_g != ""
    log_profile_cg[:, linked] = genes.log_profile_cg[0, linked]
    specific_cg[:, linked] = 0.0
    size_c = rng.lognormal(0.0, 0.3, len(CELL_TYPES))
    kept = slice(n_cell_types)
    return log_profile_cg[kept].astype(np.float32), specific_cg[kept].astype(np.float32), size_c[kept]


def _draw_donors(n_donors: int, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Draw sex, age and batch of each donor, and the covariates in the units of the genes' effects."""
    age = np.clip(rng.normal(64.0, 14.0, n_donors), 20.0, 94.9)
    decade = (age // 10 * 10).astype(int)
    male = rng.random(n_donors) < 0.43
    pool = np.arange(n_donors) // POOL
    pool_effect = rng.standard_normal((pool.max() + 1, 2))
    donors = pd.DataFrame(
        {
            "sex": pd.Categorical(np.where(male, "M", "F"), categories=["F", "M"]),
            "age": pd.Categorical([f"{start}-{start + 9}" for start in decade]),
            "batch": pd.Categorical([f"pool_{number + 1:02d}" for number in pool]),
            "truth_age": age,
        },
        index=pd.Index([f"SC{number:05d}" for number in range(1, n_donors + 1)], name="donor"),
    )
    covariates = {
        "age": (age - 52.0) / 13.0,
        "sex": np.where(male, 1.0, -1.0),
        "batch_1": pool_effect[pool, 0],
        "batch_2": pool_effect[pool, 1],
    }
    covariate_de = np.column_stack([covariates.get(name, np.zeros(n_donors)) for name in COVARIATES])
    return donors, covariate_de.astype(np.float32)
