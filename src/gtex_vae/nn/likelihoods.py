"""Likelihoods of standardized expression around the decoder's mean.

Shapes: ``n`` samples, ``g`` genes. Each likelihood turns squared errors into nats and knows its own variance.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gtex_vae.functional.elbo import gaussian_nll, optimal_gaussian_nll

LikelihoodName = Literal["mse", "shared", "per_gene"]


class UnitVariance(nn.Module):
    """Gaussian with variance 1: squared error up to constants, as in the published GTEx VAE."""

    log_var: Tensor

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        self.register_buffer("log_var", torch.zeros(1), persistent=False)

    def forward(self, squared_error_ng: Tensor, weight_ng: Tensor | None = None) -> Tensor:
        """Mean negative log density per entry in nats, a scalar; weights are positive with mean 1."""
        return gaussian_nll(weighted_mean(squared_error_ng, weight_ng), self.log_var[0])


class SharedVariance(nn.Module):
    """Gaussian with one variance for all genes, at its optimum for every batch (sigma-VAE).

    In training the variance is the batch's own mean squared error, in closed form; a running mean of it is kept in
    ``log_var`` for evaluation, so that a held-out ELBO uses a variance that never saw the held-out samples.

    References
    ----------
    Rybkin, Daniilidis and Levine (2021), Simple and Effective VAE Training with Calibrated Decoders.
    """

    log_var: Tensor
    momentum = 0.02

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        self.register_buffer("log_var", torch.zeros(1))

    def forward(self, squared_error_ng: Tensor, weight_ng: Tensor | None = None) -> Tensor:
        """Mean negative log density per entry in nats, a scalar; weights are positive with mean 1."""
        mse = weighted_mean(squared_error_ng, weight_ng)
        if not self.training:
            return gaussian_nll(mse, self.log_var[0])
        with torch.no_grad():
            self.log_var.lerp_(mse.log().to(self.log_var.dtype), self.momentum)
        return optimal_gaussian_nll(mse)


class PerGeneVariance(nn.Module):
    """Gaussian with a learned variance for each gene."""

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        self.log_var = nn.Parameter(torch.zeros(n_genes))

    def forward(self, squared_error_ng: Tensor, weight_ng: Tensor | None = None) -> Tensor:
        """Mean negative log density per entry in nats, a scalar; weights are positive with mean 1."""
        return weighted_mean(gaussian_nll(squared_error_ng, self.log_var), weight_ng)


LIKELIHOODS: dict[str, type[nn.Module]] = {
    "mse": UnitVariance,
    "shared": SharedVariance,
    "per_gene": PerGeneVariance,
}
assert set(LIKELIHOODS) == set(get_args(LikelihoodName))


def weighted_mean(value_ng: Tensor, weight_ng: Tensor | None) -> Tensor:
    """Mean over all entries, with weights of mean 1 where they are given."""
    return value_ng.mean() if weight_ng is None else (value_ng * weight_ng).mean()
