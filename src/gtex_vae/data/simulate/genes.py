"""Genes and gene modules of the simulated data, and checks of the simulators' arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gtex_vae.data.simulate.expression import Genes, draw_genes, names
from gtex_vae.errors import ConfigError, DataError

if TYPE_CHECKING:
    from anndata import AnnData

# above every Ensembl number in use, so that no simulated gene matches a real one
FIRST_ENSEMBL, ENSEMBL_NUMBERS = 700_000, 300_000
SMALLEST_MODULE, LARGEST_MODULE = 10, 200
MODULE_SHARE = 0.6  # of the genes, at most


def simulate_genes(
    n_genes: int, n_modules: int | None = None, *, noise: float = 0.3, seed: int = 0
) -> tuple[pd.DataFrame, Genes]:
    """Draw the genes that `simulate_gtex` draws for the same arguments.

    Parameters
    ----------
    n_genes, n_modules, noise, seed
        See `gtex_vae.data.simulate.bulk.simulate_gtex`.

    Returns
    -------
    var
        Ids, names and module of each gene.
    genes
        Their parameters; ``log_profile_cg`` has a row for each of ``DETAILS``, then for each of ``SHARED_CELL_TYPES``.

    Examples
    --------
    >>> from gtex_vae.data.simulate.bulk import simulate_gtex
    >>> var, genes = simulate_genes(60, seed=1)
    >>> var.index.equals(simulate_gtex(n_samples=30, n_genes=60, seed=1).var_names)
    True
    """
    n_modules = default_modules(n_genes) if n_modules is None else n_modules
    gene_rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(4)[1])
    module_g = draw_modules(n_genes, n_modules, gene_rng)
    var = describe_genes(module_g, gene_rng)
    return var, draw_genes(n_genes, module_g, noise, gene_rng)


def default_modules(n_genes: int) -> int:
    """Return one module per 30 genes, at most 100.

    >>> default_modules(2000), default_modules(20_000)
    (66, 100)
    """
    return min(100, max(1, n_genes // 30))


def module_gene_sets(adata: AnnData) -> dict[str, list[str]]:
    """Return the modules of simulated data as gene sets.

    Parameters
    ----------
    adata
        Simulated data, or a subset that kept ``var["module"]``.

    Returns
    -------
    dict of str to list of str
        Module name to gene names, in the order of ``var``.

    Raises
    ------
    DataError
        ``var`` has no column ``module``.

    Examples
    --------
    >>> from gtex_vae.data.simulate.bulk import simulate_gtex
    >>> sets = module_gene_sets(simulate_gtex(n_samples=30, n_genes=60, seed=1))
    >>> {name: len(genes) for name, genes in sets.items()}
    {'module_001': 24, 'module_002': 11}
    """
    if "module" not in adata.var:
        raise DataError("var has no column 'module': these are not simulated data; give genesets=FILE.gmt")
    var = adata.var[adata.var["module"].astype(str) != ""]
    by_module = var.groupby(var["module"].astype(str))["gene_name"]
    return {str(module): genes.astype(str).tolist() for module, genes in by_module}


def check_whole(key: str, value: object, low: int, high: int) -> None:
    """Raise unless the value is a whole number in the range."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise ConfigError(f"{key}={value!r}: give a whole number from {low} to {high}")


def check_number(key: str, value: object, low: float, high: float) -> None:
    """Raise unless the value is a number in the range."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{key}={value!r}: give a number from {low:g} to {high:g}")


def draw_modules(n_genes: int, n_modules: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the module index of each gene, -1 for no module."""
    # every module has the smallest size; the rest is distributed at random and cut at the largest size
    extra = int(MODULE_SHARE * n_genes) - n_modules * SMALLEST_MODULE
    share = rng.dirichlet(np.full(n_modules, 2.0))
    sizes = np.minimum(SMALLEST_MODULE + np.floor(extra * share).astype(int), LARGEST_MODULE)
    if n_modules == 1:
        sizes[:] = min(int(MODULE_SHARE * n_genes), LARGEST_MODULE)
    module_g = np.full(n_genes, -1)
    module_g[rng.permutation(n_genes)[: sizes.sum()]] = np.repeat(np.arange(n_modules), sizes)
    return module_g


def describe_genes(module_g: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Make ``var``: ids, names, biotypes and modules of the genes."""
    n_genes = len(module_g)
    numbers = FIRST_ENSEMBL + np.sort(rng.choice(ENSEMBL_NUMBERS, n_genes, replace=False))
    labels = [*names("module", module_g.max() + 1), ""]
    return pd.DataFrame(
        {
            "gene_name": [f"SIM{number}" for number in numbers - FIRST_ENSEMBL],
            "biotype": pd.Categorical(["protein_coding"] * n_genes),
            "module": pd.Categorical([labels[module] for module in module_g]),
        },
        index=pd.Index([f"ENSG{number:011d}" for number in numbers], name="gene_id"),
    )
