"""Simulated expression: parameters of genes and samples, and counts drawn from them."""

# n samples, g genes, c cell types (a parenchyma per tissue, then shared types), k factors, m modules,
# e covariates with a log-linear effect

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gtex_vae.data.simulate.cohort import CULTURED, DETAILS, GROUP_OF_DETAIL, GROUPS

SHARED_CELL_TYPES = (
    "adipocyte",
    "endothelial",
    "epithelial",
    "erythroid",
    "fibroblast",
    "glia",
    "lymphocyte",
    "macrophage",
    "smooth muscle",
)
COVARIATES = ("age", "sex", "ischemic_time", "rin", "batch_1", "batch_2")
MODULE_KINDS = ("switch", "both", "peak")
READS_PER_GENE = 2500
SILENCE = 9.0  # log2 units
LOG_2 = np.log(2.0)


@dataclass(frozen=True)
class Genes:
    """Parameters of the genes."""

    log_profile_cg: np.ndarray  # log2 expression of each pure cell type
    effect_eg: np.ndarray  # log2 change per unit of each covariate
    module_g: np.ndarray  # module index, -1 if none
    loading_g: np.ndarray  # log2 change per unit of the module's activity
    noise_g: np.ndarray  # standard deviation of the residual, log2 units
    heavy_g: np.ndarray  # True if the residual is a Student t with 3 degrees of freedom
    eqtl_g: np.ndarray  # log2 change per alternative allele, 0 for most
    sex_linked_g: np.ndarray  # "", "X" (off in males) or "Y" (off in females)


@dataclass(frozen=True)
class Samples:
    """Parameters of the samples."""

    factor_nk: np.ndarray
    proportion_nc: np.ndarray
    activity_nm: np.ndarray
    covariate_ne: np.ndarray
    dosage_ng: np.ndarray  # alternative alleles at the eQTL genes only
    depth_n: np.ndarray  # expected reads
    outlier_n: np.ndarray


def draw_genes(n_genes: int, module_g: np.ndarray, noise: float, rng: np.random.Generator) -> Genes:
    """Draw profiles of tissues and cell types, effects, loadings and noise levels."""
    base_g = rng.normal(3.5, 2.6, n_genes)
    group_profile = base_g + _sparse(len(GROUPS), n_genes, 0.35, 2.0, rng)
    parenchyma = group_profile[GROUP_OF_DETAIL] + _sparse(len(DETAILS), n_genes, 0.2, 1.3, rng)
    # cultured cells differ strongly from their tissue
    cultured = [DETAILS.index(detail) for detail in CULTURED]
    parenchyma[cultured] = base_g + _sparse(len(CULTURED), n_genes, 0.5, 2.2, rng)
    shared = base_g + _sparse(len(SHARED_CELL_TYPES), n_genes, 0.4, 2.6, rng)
    # a quarter of the genes are expressed only in a few tissues or cell types
    restricted_g = rng.random(n_genes) < 0.25
    on_group = rng.random((len(GROUPS), n_genes)) < 0.2
    on_shared = rng.random((len(SHARED_CELL_TYPES), n_genes)) < 0.1
    parenchyma -= SILENCE * (restricted_g & ~on_group)[GROUP_OF_DETAIL]
    shared -= SILENCE * (restricted_g & ~on_shared)
    log_profile_cg = np.concatenate([parenchyma, shared])

    effect_eg = _sparse(len(COVARIATES), n_genes, 0.25, 1.0, rng)
    effect_eg *= np.array([0.25, 0.2, 0.6, 0.4, 0.25, 0.25])[:, None]
    sex_linked_g = np.full(n_genes, "", dtype=object)
    n_linked = max(1, n_genes // 400)
    linked = rng.choice(np.flatnonzero(module_g < 0), 2 * n_linked, replace=False)
    sex_linked_g[linked[:n_linked]], sex_linked_g[linked[n_linked:]] = "X", "Y"
    # expressed in every tissue of one sex, and not in the other
    effect_eg[:, linked] = 0.0
    effect_eg[COVARIATES.index("sex"), linked] = np.where(sex_linked_g[linked] == "X", -5.0, 5.0)
    log_profile_cg[:, linked] = rng.normal(2.0, 0.8, linked.size)

    sign = np.where(rng.random(n_genes) < 0.9, 1.0, -1.0)
    loading_g = np.where(module_g >= 0, sign * rng.gamma(8.0, 0.14, n_genes), 0.0)
    eqtl_g = np.where(rng.random(n_genes) < 0.15, rng.normal(0.0, 0.25, n_genes), 0.0)
    return Genes(
        log_profile_cg=log_profile_cg.astype(np.float32),
        effect_eg=effect_eg.astype(np.float32),
        module_g=module_g,
        loading_g=loading_g.astype(np.float32),
        noise_g=(noise * rng.lognormal(0.0, 0.35, n_genes)).astype(np.float32),
        heavy_g=rng.random(n_genes) < 0.02,
        eqtl_g=eqtl_g.astype(np.float32),
        sex_linked_g=sex_linked_g,
    )


def draw_samples(
    obs: pd.DataFrame, n_factors: int, n_modules: int, genes: Genes, rng: np.random.Generator
) -> tuple[Samples, dict[str, object]]:
    """Draw latent factors and the sample parameters that depend on them; also return the parameters that link them."""
    n = len(obs)
    donor = pd.factorize(obs["donor"].astype(str))[0]
    tissue = pd.Categorical(obs["tissue"], categories=list(DETAILS)).codes.astype(int)
    cultured = obs["tissue"].isin(CULTURED).to_numpy()
    n_donors = donor.max() + 1

    # one part of the factors is common to a donor's tissues, the rest is specific to the sample
    constitution = rng.standard_normal((n_donors, n_factors))
    factor_nk = np.sqrt(0.4) * constitution[donor] + np.sqrt(0.6) * rng.standard_normal((n, n_factors))
    outlier_n = rng.random(n) < 0.01

    activity_nm, modules = draw_activities(factor_nk, GROUP_OF_DETAIL[tissue], n_modules, rng)
    proportion_nc, pull_kc = _proportions(factor_nk, tissue, cultured, outlier_n, rng)
    modules["cell_type_pull"] = pd.DataFrame(pull_kc, columns=list(SHARED_CELL_TYPES))

    dosage_dg = rng.binomial(2, 0.3, (n_donors, np.count_nonzero(genes.eqtl_g))).astype(np.int8)
    susceptibility = rng.lognormal(0.0, 0.4, len(DETAILS))[tissue]
    plate = pd.factorize(obs["batch"].astype(str))[0]
    plate_effect = rng.standard_normal((plate.max() + 1, 2))
    covariate_ne = np.column_stack(
        [
            (obs["truth_age"] - 52.0) / 13.0,
            np.where(obs["sex"] == "M", 1.0, -1.0),
            # degradation is fast at first and then slows down
            susceptibility * 2.0 * (1.0 - np.exp(-obs["ischemic_time"] / 400.0)),
            7.0 - obs["rin"],
            plate_effect[plate],
        ]
    )
    depth = READS_PER_GENE * genes.noise_g.size * rng.lognormal(0.0, 0.35, n)
    samples = Samples(
        factor_nk=factor_nk.astype(np.float32),
        proportion_nc=proportion_nc.astype(np.float32),
        activity_nm=activity_nm.astype(np.float32),
        covariate_ne=covariate_ne.astype(np.float32),
        dosage_ng=dosage_dg[donor],
        depth_n=np.where(outlier_n, depth / 20.0, depth),
        outlier_n=outlier_n,
    )
    return samples, modules


def draw_tpm(
    rows: slice, samples: Samples, genes: Genes, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    r"""Draw transcripts per million of a slice of samples, and their size factors (millions of reads).

    .. math::

        r_{ng} = \Big(\sum_c \pi_{nc} 2^{L_{cg}}\Big)
                 2^{\,\ell_g a_{n m(g)} + \sum_e u_{ne} \beta_{eg} + q_g d_{ng}}, \qquad
        y_{ng} \sim \mathrm{Poisson}\Big(D_n \gamma_{ng} \frac{r_{ng}}{\sum_h r_{nh}}\Big)

    The sum over cell types adds amounts, not logarithms, so log expression is nonlinear in the composition
    :math:`\pi`. The modules' activities :math:`a` are nonlinear in the factors.

    Parameters
    ----------
    rows
        Slice of samples.
    samples, genes
        Parameters of all samples and genes.
    rng
        Random number generator of the noise :math:`\gamma` (gamma; log Student t for heavy-tailed genes) and the counts.

    Returns
    -------
    tpm_ng, size_n
        TPM, float32, samples x genes, each row sums to 1e6; size factors.
    """
    log_ng = samples.covariate_ne[rows] @ genes.effect_eg
    with_module = genes.module_g >= 0
    log_ng[:, with_module] += (
        samples.activity_nm[rows][:, genes.module_g[with_module]] * genes.loading_g[with_module]
    )
    log_ng[:, genes.eqtl_g != 0] += samples.dosage_ng[rows] * genes.eqtl_g[genes.eqtl_g != 0]
    log_ng[:, genes.heavy_g] += genes.noise_g[genes.heavy_g] * rng.standard_t(
        3.0, (len(log_ng), np.count_nonzero(genes.heavy_g))
    ).astype(np.float32)

    rate_ng = np.exp2(log_ng, out=log_ng)
    rate_ng *= samples.proportion_nc[rows] @ np.exp2(genes.log_profile_cg)
    rate_ng *= (samples.depth_n[rows] / rate_ng.sum(axis=1, dtype=np.float64)).astype(np.float32)[:, None]
    # a gamma with this shape has approximately the required standard deviation on the log2 scale
    shape_g = np.maximum(1.0 / (genes.noise_g * LOG_2) ** 2, 0.05).astype(np.float32)
    rate_ng *= rng.standard_gamma(np.broadcast_to(shape_g, rate_ng.shape), dtype=np.float32)
    rate_ng /= shape_g
    tpm_ng = rng.poisson(rate_ng).astype(np.float32)
    # an empty library keeps its zeros
    size_n = np.maximum(tpm_ng.sum(axis=1, dtype=np.float64), 1.0) / 1e6
    tpm_ng *= (1.0 / size_n).astype(np.float32)[:, None]
    return tpm_ng, size_n


def _sparse(rows: int, columns: int, share: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Draw normal deviations in a random fraction of the entries, zero elsewhere."""
    return rng.normal(0.0, scale, (rows, columns)) * (rng.random((rows, columns)) < share)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def draw_activities(
    factor_nk: np.ndarray, group_n: np.ndarray, n_modules: int, rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, object]]:
    """Compute the activity of each module: a nonlinear function of two directions of the factors, gated by tissue.

    ``switch`` saturates along one direction, ``both`` requires two directions, ``peak`` has a maximum along one
    direction.
    """
    n_factors = factor_nk.shape[1]
    first_km, second_km = (_directions(n_factors, n_modules, rng) for _ in range(2))
    threshold_m = rng.normal(0.0, 0.6, n_modules)
    kind_m = rng.permutation(np.arange(n_modules) % len(MODULE_KINDS))
    gate_tm = np.where(rng.random((len(GROUPS), n_modules)) < 0.65, 1.0, 0.2)

    u_nm = factor_nk @ first_km - threshold_m
    v_nm = factor_nk @ second_km
    activity_nm = np.select(
        [kind_m == MODULE_KINDS.index("switch"), kind_m == MODULE_KINDS.index("both")],
        [2.5 * _sigmoid(3.0 * u_nm), 3.0 * _sigmoid(3.0 * u_nm) * _sigmoid(3.0 * v_nm)],
        3.0 * np.exp(-1.5 * u_nm**2),
    )
    parameters: dict[str, object] = {
        "module_kind": np.array(MODULE_KINDS, dtype=object)[kind_m],
        "module_first_direction": first_km,
        "module_second_direction": second_km,
        "module_threshold": threshold_m,
        "module_gate": pd.DataFrame(gate_tm, index=list(GROUPS), columns=names("module", n_modules)),
    }
    return activity_nm * gate_tm[group_n], parameters


def _proportions(
    factor_nk: np.ndarray,
    tissue_n: np.ndarray,
    cultured_n: np.ndarray,
    outlier_n: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the share of each cell type: the tissue's parenchyma and the shared types."""
    n, n_shared = len(tissue_n), len(SHARED_CELL_TYPES)
    typical = rng.normal(-2.6, 1.2, (len(GROUPS), n_shared))[GROUP_OF_DETAIL]
    typical += rng.normal(0.0, 0.5, typical.shape)
    pull_kc = 0.8 * _directions(factor_nk.shape[1], n_shared, rng)
    logit = typical[tissue_n] + factor_nk @ pull_kc + rng.normal(0.0, 0.3, (n, n_shared))
    logit[cultured_n] -= 6.0
    weight = np.concatenate([np.zeros((n, len(DETAILS))), np.exp(logit)], axis=1)
    weight[np.arange(n), tissue_n] = 1.0
    # outliers contain some of another tissue
    stranger = rng.integers(len(DETAILS), size=n)
    weight[np.flatnonzero(outlier_n), stranger[outlier_n]] += 0.5
    return weight / weight.sum(axis=1, keepdims=True), pull_kc


def _directions(n_factors: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw unit vectors with at most two nonzero factors each."""
    direction = np.zeros((n_factors, n))
    for column in range(n):
        involved = rng.choice(n_factors, min(2, n_factors), replace=False)
        direction[involved, column] = rng.standard_normal(involved.size)
    return direction / np.linalg.norm(direction, axis=0)


def names(stem: str, n: int) -> list[str]:
    """Return ``module_001``, ``module_002``, ..."""
    return [f"{stem}_{number:03d}" for number in range(1, n + 1)]
