"""Simulated GTEx-like expression with known truth: the demo, and exact probabilistic PCA data."""

# n samples, g genes, k factors, c cell types, m modules

from __future__ import annotations

from collections.abc import Iterator

import anndata as ad
import numpy as np
import pandas as pd
from tqdm import tqdm

from gtex_vae.data.counts import SIZE
from gtex_vae.data.simulate.cohort import DETAILS, TISSUES_OF_ANYONE, simulate_cohort
from gtex_vae.data.simulate.expression import (
    COVARIATES,
    SHARED_CELL_TYPES,
    draw_genes,
    draw_samples,
    draw_tpm,
)
from gtex_vae.data.simulate.genes import (
    ENSEMBL_NUMBERS,
    SMALLEST_MODULE,
    check_whole,
    default_modules,
    describe_genes,
    draw_modules,
)
from gtex_vae.errors import ConfigError

CHUNK_ENTRIES = 4_000_000


def simulate_gtex(
    *,
    n_samples: int = 1500,
    n_genes: int = 2000,
    n_donors: int | None = None,
    n_factors: int = 10,
    n_modules: int | None = None,
    noise: float = 0.3,
    linear: bool = False,
    seed: int = 0,
) -> ad.AnnData:
    r"""Simulate expression of many tissues and donors, with the true parameters.

    By default each sample is a mixture of cell types: the parenchyma of its tissue, and types shared by all tissues.
    The mixture is multiplied by gene modules that latent factors switch on and off, and by log-linear effects of age,
    sex, ischemic time, RIN, batch and genotype. Counts are then drawn
    (:func:`gtex_vae.data.simulate.expression.draw_tpm`). The expression depends on ``n_factors`` numbers, tissue and
    covariates, but nonlinearly, so no linear map of few dimensions represents it.

    With ``linear=True`` the data follow probabilistic PCA exactly, independent of all annotations:

    .. math:: x = W z + \mu + \sigma \epsilon, \qquad z \sim N(0, I_k), \quad \epsilon \sim N(0, I_g)

    Parameters
    ----------
    n_samples
        Number of samples; each is one tissue of one donor.
    n_genes
        Number of genes, at least 50.
    n_donors
        Number of donors, each with one or more tissues; ``n_samples // 12`` if None.
    n_factors
        Number of latent continuous factors :math:`k`.
    n_modules
        Number of gene modules, of 10 to 200 genes each; one per 30 genes, at most 100, if None.
    noise
        Standard deviation of a typical gene's residual, in log2 units, before counting;
        :math:`\sigma` if ``linear``.
    linear
        Draw exact probabilistic PCA data in arbitrary units instead of log2(TPM+1).
    seed
        Seed; equal arguments and seed give equal data.

    Returns
    -------
    anndata.AnnData
        ``X`` float32, samples x genes. ``obs``: annotations
        (:func:`gtex_vae.data.simulate.cohort.simulate_cohort`) and ``size_factor`` (millions of reads). ``var``:
        ``gene_name``, ``biotype`` and ``module`` (empty if the gene has none). The truth:

        ================================ ============================================================
        ``obsm["truth_factors"]``        latent factors, samples x k
        ``obsm["truth_modules"]``        activity of each module
        ``obsm["truth_proportions"]``    share of each cell type, named columns
        ``varm["truth_profiles"]``       log2 expression of each pure cell type
        ``varm["truth_effects"]``        log2 change per unit of each covariate
        ``obsm["truth_covariates"]``     the covariates in those units
        ``var["truth_loading"]``         log2 change per unit of the module's activity
        ``var["truth_noise"]``           residual standard deviation, log2 units
        ``var["truth_heavy_tailed"]``    True if the residual is heavy-tailed
        ``var["truth_eqtl"]``            log2 change per alternative allele
        ``var["truth_sex_linked"]``      "X": females only; "Y": males only
        ``obs["truth_outlier"]``         a shallow library mixed with another tissue
        ``obs["truth_depth"]``           expected reads
        ``uns["truth"]``                 arguments, and effects of factors on modules and cell types
        ================================ ============================================================

        With ``linear``: ``obsm["truth_factors"]`` (z), ``varm["truth_loadings"]`` (W),
        ``var["truth_mean"]`` (mu) and ``uns["truth"]["noise"]`` (sigma).

    Raises
    ------
    ConfigError
        An argument is out of range, or the arguments are inconsistent.

    References
    ----------
    Tipping and Bishop (1999), Probabilistic principal component analysis, eq. 2.

    Examples
    --------
    >>> adata = simulate_gtex(n_samples=30, n_genes=60, seed=1)
    >>> adata.shape, adata.obs["donor"].nunique(), adata.uns["expression"]["unit"]
    ((30, 60), 2, 'log2(TPM+1)')
    """
    check_whole("n_samples", n_samples, 2, 500_000)
    check_whole("n_genes", n_genes, 50, ENSEMBL_NUMBERS)
    n_donors = max(1, n_samples // 12) if n_donors is None else n_donors
    n_modules = default_modules(n_genes) if n_modules is None else n_modules
    check_whole("n_donors", n_donors, 1, n_samples)
    check_whole("n_factors", n_factors, 1, n_genes - 1)
    check_whole("n_modules", n_modules, 1, n_genes // (2 * SMALLEST_MODULE))
    check_whole("seed", seed, 0, 2**63 - 1)
    if n_samples > n_donors * TISSUES_OF_ANYONE:
        raise ConfigError(
            f"n_donors={n_donors} is too small for n_samples={n_samples}: a donor has at most {TISSUES_OF_ANYONE} "
            f"tissues; use n_donors={-(-n_samples // TISSUES_OF_ANYONE)} or more"
        )
    if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0.0 < noise <= 3.0:
        raise ConfigError(f"noise={noise!r}: give a standard deviation above 0, up to 3")
    if not isinstance(linear, bool):
        raise ConfigError(f"linear={linear!r}: give true or false")
    # separate streams, so that the cohort does not depend on the number of genes
    cohort_rng, gene_rng, sample_rng, noise_rng = (
        np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(4)
    )
    obs = simulate_cohort(n_samples, n_donors, cohort_rng)
    module_g = draw_modules(n_genes, n_modules, gene_rng)
    adata = ad.AnnData(
        X=np.empty((n_samples, n_genes), dtype=np.float32), obs=obs, var=describe_genes(module_g, gene_rng)
    )
    adata.uns["truth"] = {
        "n_donors": n_donors,
        "n_factors": n_factors,
        "n_modules": n_modules,
        "noise": noise,
        "linear": linear,
        "seed": seed,
    }
    fill = _fill_linear if linear else _fill_tissues
    fill(adata, module_g, gene_rng, sample_rng, noise_rng)
    return adata


def _chunks(adata: ad.AnnData) -> Iterator[slice]:
    """Yield slices of rows that keep temporary arrays small, with a progress bar after two seconds."""
    rows = max(1, CHUNK_ENTRIES // adata.n_vars)
    starts = range(0, adata.n_obs, rows)
    progress = tqdm(
        starts, desc="simulate", unit_scale=rows, unit=" samples", delay=2, leave=False, disable=None
    )
    return (slice(start, min(start + rows, adata.n_obs)) for start in progress)


def _fill_linear(
    adata: ad.AnnData,
    module_g: np.ndarray,
    gene_rng: np.random.Generator,
    sample_rng: np.random.Generator,
    noise_rng: np.random.Generator,
) -> None:
    """Write probabilistic PCA data and their truth into ``adata``; genes of a module have similar loadings."""
    truth = adata.uns["truth"]
    k = truth["n_factors"]
    centre_mk = gene_rng.standard_normal((truth["n_modules"], k))
    loading_gk = gene_rng.standard_normal((adata.n_vars, k))
    inside = module_g >= 0
    loading_gk[inside] = 0.9 * centre_mk[module_g[inside]] + np.sqrt(1 - 0.9**2) * loading_gk[inside]
    # columns of unequal size, so that the axes are identifiable, not only the subspace
    loading_gk *= np.linspace(1.0, 0.4, k) / np.sqrt(k)
    mean_g = gene_rng.normal(4.0, 2.0, adata.n_vars)
    factor_nk = sample_rng.standard_normal((adata.n_obs, k))
    for rows in _chunks(adata):
        signal_ng = factor_nk[rows] @ loading_gk.T + mean_g
        adata.X[rows] = signal_ng + truth["noise"] * noise_rng.standard_normal(signal_ng.shape)
    adata.uns["expression"] = {"unit": "arbitrary (linear Gaussian)"}
    adata.obsm["truth_factors"] = factor_nk
    adata.varm["truth_loadings"] = loading_gk
    adata.var["truth_mean"] = mean_g


def _fill_tissues(
    adata: ad.AnnData,
    module_g: np.ndarray,
    gene_rng: np.random.Generator,
    sample_rng: np.random.Generator,
    noise_rng: np.random.Generator,
) -> None:
    """Write simulated log2(TPM+1) and its truth into ``adata``."""
    truth = adata.uns["truth"]
    genes = draw_genes(adata.n_vars, module_g, truth["noise"], gene_rng)
    samples, links = draw_samples(adata.obs, truth["n_factors"], truth["n_modules"], genes, sample_rng)
    size_n = np.empty(adata.n_obs)
    for rows in _chunks(adata):
        tpm_ng, size_n[rows] = draw_tpm(rows, samples, genes, noise_rng)
        tpm_ng += 1.0
        np.log2(tpm_ng, out=adata.X[rows])
    adata.uns["expression"] = {"unit": "log2(TPM+1)"}
    adata.obs[SIZE] = size_n
    truth.update(links)
    cell_types = [*DETAILS, *SHARED_CELL_TYPES]
    adata.obsm["truth_factors"] = samples.factor_nk
    adata.obsm["truth_modules"] = samples.activity_nm
    adata.obsm["truth_proportions"] = pd.DataFrame(samples.proportion_nc, adata.obs_names, cell_types)
    adata.obsm["truth_covariates"] = pd.DataFrame(samples.covariate_ne, adata.obs_names, list(COVARIATES))
    adata.varm["truth_profiles"] = pd.DataFrame(genes.log_profile_cg.T, adata.var_names, cell_types)
    adata.varm["truth_effects"] = pd.DataFrame(genes.effect_eg.T, adata.var_names, list(COVARIATES))
    adata.obs["truth_outlier"] = samples.outlier_n
    adata.obs["truth_depth"] = samples.depth_n.astype(np.float32)
    adata.var["truth_loading"] = genes.loading_g
    adata.var["truth_noise"] = genes.noise_g
    adata.var["truth_heavy_tailed"] = genes.heavy_g
    adata.var["truth_eqtl"] = genes.eqtl_g
    adata.var["truth_sex_linked"] = pd.Categorical(genes.sex_linked_g)
