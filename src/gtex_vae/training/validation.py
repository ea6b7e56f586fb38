"""Validation metrics from sums over batches.

Shapes: ``n`` samples, ``g`` genes, ``f`` features (genes, or their coordinates in a basis), ``d`` latent dimensions,
``k`` columns of the covariates' design.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from gtex_vae.functional.elbo import sample_posterior
from gtex_vae.functional.masking import hide
from gtex_vae.functional.seeds import seed_generators, step_seed
from gtex_vae.models.objective import Objective
from gtex_vae.models.vae import VAE, VAEOutput

VALIDATION_SEED = 20_160  # of the masks, which are the same in every epoch and every run
VALIDATION_RATIO = 0.2
CONTRAST_STREAM, SAMPLE_STREAM = 1, 2  # other random streams than the masks
ACTIVE_VARIANCE = 0.01  # Burda et al. (2016), section 5

Forward = Callable[[Tensor, Tensor | None], VAEOutput]


def validation_seed(batch_idx: int, rank: int, *stream: int) -> int:
    """Return the seed of one batch, the same in every epoch and every run."""
    return step_seed(VALIDATION_SEED, batch_idx, rank, *stream)


def elbo_sums(
    vae: VAE,
    objective: Objective,
    output: VAEOutput,
    x_nf: Tensor,
    c_nk: Tensor | None,
    *,
    outside_n: Tensor | None,
    size_n: Tensor | None,
    seed: int,
) -> dict[str, Tensor]:
    """Return sums over a batch: the ELBO at beta = 1, squared errors, squared values and posterior moments.

    Parameters
    ----------
    output
        The model's output for the batch, in evaluation.
    x_nf, outside_n, size_n
        See `gtex_vae.models.objective.Objective`.
    c_nk
        Completed covariates.
    seed
        Seed of the posterior sample. The ELBO is an expectation over the posterior, so its likelihood uses a sample; R2
        uses the mean.
    """
    given = {"beta": 1.0, "outside_n": outside_n, "size_n": size_n}
    terms = objective(vae.likelihood, output, x_nf, **given)  # type: ignore[arg-type]
    seed_generators(seed, x_nf.device)
    z_nd = sample_posterior(output.mu_nd, output.log_var_nd)
    sampled = replace(output, z_nd=z_nd, x_hat_nf=vae.decode_features(z_nd, c_nk))
    nll = objective(vae.likelihood, sampled, x_nf, **given).nll_nats  # type: ignore[arg-type]
    mu_nd, n, basis_fg = output.mu_nd.float(), len(x_nf), vae.basis_fg
    square = x_nf.square().sum(dtype=torch.float64)
    return {
        "n": torch.tensor(float(n), device=x_nf.device),
        "nll": nll * n,
        "kl_d": terms.kl_d * n,
        "mu_d": mu_nd.sum(0),
        "mu2_d": mu_nd.square().sum(0),
        "x": (x_nf if basis_fg is None else x_nf @ basis_fg.sum(1)).sum(dtype=torch.float64),
        "x2": square if outside_n is None else square + outside_n.sum(dtype=torch.float64),
        "se": terms.mse.double() * n * vae.n_genes,
    }


def imputation_sums(
    vae: VAE, forward: Forward, x_ng: Tensor, c_nk: Tensor | None, *, seed: int
) -> dict[str, Tensor]:
    """Return sums over the hidden entries of a batch of genes."""
    generator = torch.Generator(x_ng.device).manual_seed(seed)
    observed_ng = torch.empty_like(x_ng).bernoulli_(1.0 - VALIDATION_RATIO, generator=generator)
    x_hat_ng = vae.expand(forward(vae.project(hide(x_ng, observed_ng)), c_nk).x_hat_nf.float())
    hidden_ng = 1.0 - observed_ng
    return {
        "hidden": hidden_ng.sum(dtype=torch.float64),
        "hidden_x": (x_ng * hidden_ng).sum(dtype=torch.float64),
        "hidden_x2": (x_ng.square() * hidden_ng).sum(dtype=torch.float64),
        "hidden_se": ((x_hat_ng - x_ng).square() * hidden_ng).sum(dtype=torch.float64),
    }


def validation_figures(total: Mapping[str, Tensor], n_genes: int) -> dict[str, Tensor]:
    """Compute metrics from the sums over all batches and processes; none depends on beta."""
    n, kl = total["n"], (total["kl_d"] / total["n"]).sum()
    variance_d = total["mu2_d"] / n - (total["mu_d"] / n).square()
    figures = {
        "val/loss": (total["nll"] / n + kl) / n_genes,
        "val/kl_nats": kl,
        "val/mse": total["se"] / (n * n_genes),
        "val/r2": 1.0 - total["se"] / (total["x2"] - total["x"].square() / (n * n_genes)),
        "val/active_units": (variance_d > ACTIVE_VARIANCE).sum(),
    }
    if "hidden" in total:
        spread = total["hidden_x2"] - total["hidden_x"].square() / total["hidden"]
        figures["val/imputation_r2_20"] = 1.0 - total["hidden_se"] / spread
    if "contrastive" in total:
        figures["val/contrastive"] = total["contrastive"] / n
    return figures
