"""Terms of the evidence lower bound.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_2PI = math.log(2.0 * math.pi)


def kl_standard_normal(mu_nd: Tensor, log_var_nd: Tensor) -> Tensor:
    r"""KL divergence of a diagonal Gaussian from the standard normal, per sample and dimension.

    .. math:: \mathrm{KL}_{nd} = \tfrac12 (\mu^2 + e^{\log \sigma^2} - 1 - \log \sigma^2)

    Parameters
    ----------
    mu_nd, log_var_nd
        Posterior mean and log variance, shape (n, d).

    Returns
    -------
    Tensor
        Shape (n, d), in nats, never negative.

    References
    ----------
    Kingma and Welling (2014), Auto-Encoding Variational Bayes, appendix B.

    Examples
    --------
    >>> kl_standard_normal(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor([[0., 0.]])
    """
    # expm1: near the prior, exp(v) - 1 - v loses all its digits, and may come out negative
    return 0.5 * (mu_nd.square() + (torch.expm1(log_var_nd) - log_var_nd))


def sample_posterior(mu_nd: Tensor, log_var_nd: Tensor) -> Tensor:
    """Draw z = mu + sigma * eps with eps from N(0, 1), differentiable in both arguments.

    References
    ----------
    Kingma and Welling (2014), section 2.4 (the reparameterization trick).
    """
    return torch.addcmul(mu_nd, torch.exp(0.5 * log_var_nd), torch.randn_like(mu_nd))


def free_bits(kl_nd: Tensor, nats: float) -> Tensor:
    r"""Sum over dimensions of the batch-mean KL, each dimension counted as at least ``nats``.

    .. math:: \sum_d \max(\lambda, \tfrac1n \sum_n \mathrm{KL}_{nd})

    A dimension below the floor gets no gradient, so it is not pressed to collapse.

    Parameters
    ----------
    kl_nd
        Shape (n, d), nats.
    nats
        The floor lambda per dimension; 0 gives the plain mean KL.

    Returns
    -------
    Tensor
        Scalar, nats per sample.

    References
    ----------
    Kingma et al. (2016), Improved Variational Inference with Inverse Autoregressive Flow, eq. 15.
    """
    return kl_nd.mean(0).clamp_min(nats).sum()


def gaussian_nll(squared_error: Tensor, log_var: Tensor) -> Tensor:
    r"""Negative log density of a Gaussian, elementwise, from the squared error.

    .. math:: \tfrac12 (\log 2\pi + \log\sigma^2 + (x - \hat x)^2 e^{-\log\sigma^2})

    Parameters
    ----------
    squared_error
        ``(x - x_hat)**2`` of any shape.
    log_var
        Log variance, broadcastable to it.

    Returns
    -------
    Tensor
        Nats, of the broadcast shape.
    """
    return 0.5 * (LOG_2PI + log_var + squared_error * torch.exp(-log_var))


def optimal_gaussian_nll(mean_squared_error: Tensor) -> Tensor:
    r"""Gaussian negative log density per entry when the shared variance is at its optimum.

    .. math:: \min_\sigma \mathrm{NLL} = \tfrac12 (\log 2\pi + \log \mathrm{MSE} + 1)

    References
    ----------
    Rybkin, Daniilidis and Levine (2021), Simple and Effective VAE Training with Calibrated Decoders,
    eq. 6-7 (the "optimal sigma-VAE").

    Examples
    --------
    >>> mse = torch.tensor(0.3)
    >>> torch.isclose(optimal_gaussian_nll(mse), gaussian_nll(mse, mse.log()))
    tensor(True)
    """
    return 0.5 * (LOG_2PI + mean_squared_error.log() + 1.0)
