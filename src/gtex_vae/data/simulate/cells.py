"""Simulated single blood cells of many donors with known truth: the single-cell demo."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from tqdm import tqdm

from gtex_vae.data.simulate.cell_world import check_arguments, describe_cells, draw_world
from gtex_vae.data.simulate.expression import COVARIATES


def simulate_singlecell(
    *,
    n_donors: int = 60,
    n_cell_types: int = 8,
    cells_per_donor: int = 150,
    n_genes: int = 2000,
    n_modules: int | None = None,
    n_factors: int = 10,
    shared: float = 0.5,
    genetic: float = 0.3,
    activity: float = 0.2,
    composition: float = 8.0,
    depth: float = 1000.0,
    noise: float = 0.2,
    overdispersion: float = 0.3,
    seed: int = 0,
    bulk_seed: int = 0,
) -> ad.AnnData:
    r"""Simulate counts of single blood cells of many donors, with the true parameters.

    The genes, their modules, covariate effects and eQTL are those of `gtex_vae.data.simulate.bulk.simulate_gtex` with
    ``seed=bulk_seed`` and the same number of genes and modules, so a model trained on that bulk data can encode these
    cells. For cell i of donor d and cell type c, with :math:`\epsilon` standard normal and :math:`\gamma` gamma with
    mean 1 and variance ``overdispersion`` (so the counts are negative binomial):

    .. math::

        \log_2 r_{dcg} = L_{cg} + \ell_g a_{dc\,m(g)} + (q_g + s_{cg})\, t_{dg}
                         + \sum_e u_{de} \beta_{eg} + \sigma \epsilon_{dcg}, \qquad
        y_{ig} \sim \mathrm{Poisson}\Big(D_i \gamma_{ig} \frac{r_{dcg}}{\sum_h r_{dch}}\Big)

    Donors differ in every cell type by the alleles t with shared effects q, the covariates u (age, sex, batch), and the
    ``shared`` part of the factors behind the activities a. They differ in single cell types by s, the rest of the
    factors, and :math:`\sigma`. Composition is Dirichlet and independent of the other parameters.

    Parameters
    ----------
    n_donors
        Number of donors; each batch has 14.
    n_cell_types
        Number of cell types, most frequent first, at most 29.
    cells_per_donor
        Mean number of cells per donor (log sd 0.3 between donors).
    n_genes, n_modules
        As in `simulate_gtex`.
    n_factors
        Number of latent factors behind the modules' activities.
    shared
        Fraction of the factors' variance that is common to a donor's cell types, 0 to 1.
    genetic
        Size of the eQTL effects q and s relative to those of the bulk data.
    activity
        Size of the activities a relative to the bulk data; donors of one tissue differ less than tissues do.
    composition
        Sum of the Dirichlet's parameters; smaller values make donors differ more in composition.
    depth
        Mean counts per cell of a type of average size.
    noise
        Standard deviation :math:`\sigma`, log2 units.
    overdispersion
        Variance of :math:`\gamma`; 0 for Poisson counts.
    seed
        Seed; equal arguments and seed give equal data.
    bulk_seed
        Seed of the bulk data with the same genes.

    Returns
    -------
    anndata.AnnData
        ``X`` CSR of whole numbers as float32, cells x genes; ``obs`` has ``donor``, ``cell_type``, ``sex``, ``age``
        (bracket), ``batch``, ``tissue`` and ``tissue_group``; ``var`` as of `simulate_gtex`. The truth:

        ================================ ============================================================
        ``varm["truth_profiles"]``       log2 expression of each pure cell type, :math:`L`
        ``varm["truth_eqtl"]``           log2 change per allele in each type, q + s
        ``uns["truth_proportions"]``     expected composition, donors x cell types
        ``uns["truth_donors"]``          exact age of each donor and the covariates u
        ``uns["truth_activity"]``        activity of each module, donors x cell types x modules
        ``uns["truth_dosage"]``          alternative alleles, donors x genes
        ``uns["truth"]``                 arguments
        ================================ ============================================================

    Raises
    ------
    ConfigError
        An argument is out of range.

    Examples
    --------
    >>> cells = simulate_singlecell(n_donors=3, cells_per_donor=20, n_genes=60)
    >>> cells.obs["donor"].nunique(), cells.n_vars, cells.X.dtype
    (3, 60, dtype('float32'))
    """
    arguments = dict(locals())
    check_arguments(arguments)
    world = draw_world(**arguments)
    donor_of, type_of, blocks = [], [], []
    for d, cell_type_i, count_ig in tqdm(
        world.blocks(), desc="simulate", total=n_donors, unit=" donors", delay=2, leave=False, disable=None
    ):
        donor_of.append(np.full(len(cell_type_i), d))
        type_of.append(cell_type_i)
        blocks.append(count_ig)
    adata = ad.AnnData(
        X=sp.vstack(blocks, format="csr"),
        obs=describe_cells(world, np.concatenate(donor_of), np.concatenate(type_of)),
        var=world.var.assign(truth_loading=world.genes.loading_g),
    )
    names = list(world.cell_types)
    adata.varm["truth_profiles"] = pd.DataFrame(world.log_profile_cg.T, adata.var_names, names)
    adata.varm["truth_eqtl"] = pd.DataFrame(world.allele_cg.T, adata.var_names, names)
    adata.uns["expression"] = {"unit": "counts"}
    adata.uns["truth"] = {**arguments, "n_modules": world.activity_dcm.shape[2]}
    adata.uns["truth_proportions"] = pd.DataFrame(world.proportion_dc, world.donors.index, names)
    adata.uns["truth_donors"] = pd.DataFrame(world.covariate_de, world.donors.index, list(COVARIATES)).assign(
        truth_age=world.donors["truth_age"]
    )
    adata.uns["truth_activity"] = world.activity_dcm
    adata.uns["truth_dosage"] = world.dosage_dg
    return adata
