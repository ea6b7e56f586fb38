"""KL divergence and evidence lower bound on held-out samples.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from gtex_vae.analysis.metrics.latent import kl_per_dimension
from gtex_vae.inference.predictors import BATCH_SIZE, batches
from gtex_vae.models.vae import VAE


@torch.inference_mode()
def rate_metrics(
    vae: VAE,
    x_ng: np.ndarray,
    c_nk: np.ndarray | None = None,
    size_n: np.ndarray | None = None,
    *,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> dict[str, float]:
    """Compute KL and ELBO of held-out samples, with one posterior sample each.

    Parameters
    ----------
    vae
        Model in evaluation mode.
    x_ng
        Standardized expression, shape (n, g), float32.
    c_nk
        Design of the covariates, for a conditional model.
    size_n
        Size factors, for a likelihood of counts; its ELBO is NaN without them.
    seed
        Seed of the posterior samples.
    batch_size
        Samples at a time.

    Returns
    -------
    dict
        ``rate/kl_nats``, and ``elbo/nats_per_gene``: log density of standardized expression, or log probability
        of counts.
    """
    device = next(vae.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    log_likelihood, kl = 0.0, 0.0
    for rows, batch_ng in batches(x_ng, batch_size):
        x = torch.as_tensor(batch_ng, device=device)
        c = None if c_nk is None else torch.as_tensor(c_nk[rows], device=device)
        c = vae.complete(c, vae.project(x))
        mu_nd, log_var_nd = vae.encode(x, c)
        noise_nd = torch.randn(mu_nd.shape, generator=generator, device=device)
        x_hat_ng = vae.decode(mu_nd + torch.exp(0.5 * log_var_nd) * noise_nd, c)
        if size_n is None and vae.likelihood.needs_size_factors:
            log_likelihood = math.nan
        else:
            size = None if size_n is None else torch.as_tensor(size_n[rows], device=device)
            log_likelihood -= float(vae.likelihood(x_hat_ng, x, size_n=size)) * x.numel()
        kl += float(kl_per_dimension(mu_nd.cpu().numpy(), log_var_nd.cpu().numpy()).sum()) * len(x)
    n, g = x_ng.shape
    return {"rate/kl_nats": kl / n, "elbo/nats_per_gene": (log_likelihood - kl) / (n * g)}
