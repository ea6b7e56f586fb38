"""Gaussian likelihoods of standardized expression, and the table of all likelihoods.

Shapes: ``n`` samples, ``g`` genes, ``f`` features: genes, or coordinates in an orthonormal basis.

To add a likelihood: subclass `gtex_vae.nn.likelihood.Likelihood`, implement ``forward``, set the flags that differ, and add
a row to `LIKELIHOODS`.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from gtex_vae.functional.elbo import LOG_2PI, gaussian_nll, optimal_gaussian_nll
from gtex_vae.nn import distributed
from gtex_vae.nn.likelihood import Likelihood
from gtex_vae.nn.negative_binomial import NegativeBinomial

LikelihoodName = Literal["mse", "shared", "per_sample", "per_gene", "negative_binomial"]

MOMENTUM = 0.02  # of running moments, per batch


class UnitVariance(Likelihood):
    """Gaussian with variance 1: squared error up to constants, as in the published GTEx VAE."""

    def __init__(self, n_genes: int) -> None:
        super().__init__(n_genes)
        self.register_buffer("log_var", torch.zeros(1), persistent=False)

    def nats(self, mse_n: Tensor) -> Tensor:
        """See `Likelihood.nats`."""
        return gaussian_nll(mse_n.mean(), self.log_var[0])


class SharedVariance(Likelihood):
    """Gaussian with one variance for all genes, optimal for every batch (sigma-VAE).

    In training the variance is the batch's mean squared error, in closed form. Its running mean is kept in ``log_var``
    for evaluation, so that a held-out ELBO uses a variance fitted without held-out samples.

    References
    ----------
    Rybkin, Daniilidis and Levine (2021), Simple and Effective VAE Training with Calibrated Decoders.
    """

    def __init__(self, n_genes: int) -> None:
        super().__init__(n_genes)
        self.register_buffer("log_var", torch.zeros(1))

    def nats(self, mse_n: Tensor) -> Tensor:
        """See `Likelihood.nats`."""
        mse = mse_n.mean()
        if not self.training:
            return gaussian_nll(mse, self.log_var[0])
        mse = distributed.mean(mse)
        with torch.no_grad():
            self.log_var.lerp_(mse.log().to(self.log_var.dtype), MOMENTUM)
        return optimal_gaussian_nll(mse)


class SampleVariance(Likelihood):
    r"""Gaussian with a variance per sample, integrated out: a multivariate Student t.

    .. math:: \sigma_n^2 \sim \mathrm{InvGamma}(a, b), \quad
        -\log p(x_n) = \tfrac G2 \log 2\pi + \log\tfrac{\Gamma(a)}{\Gamma(a + G/2)} - a \log b
        + (a + \tfrac G2) \log(b + \tfrac12 \lVert x_n - \hat x_n \rVert^2)

    Samples differ in quality. A degraded sample is far from any reconstruction; with one variance for all samples it
    would influence the model more than a hundred good ones. Both parameters follow in closed form from running moments
    of the samples' log mean squared errors. With thousands of genes the prior has almost no weight against the data.

    References
    ----------
    Lange, Little and Taylor (1989), Robust Statistical Modeling Using the t Distribution; Takahashi et al. (2018),
    Student-t Variational Autoencoder, for the elementwise form.
    """

    spread: Tensor

    def __init__(self, n_genes: int) -> None:
        super().__init__(n_genes)
        self.register_buffer("log_var", torch.zeros(1))
        self.register_buffer("spread", torch.ones(1))

    def nats(self, mse_n: Tensor) -> Tensor:
        """See `Likelihood.nats`."""
        if self.training:
            with torch.no_grad():
                log_mse_n = mse_n.log().to(self.log_var.dtype)
                off = log_mse_n - self.log_var
                self.spread.lerp_(distributed.mean(off.square().mean()), MOMENTUM)
                self.log_var.add_(MOMENTUM * distributed.mean(off.mean()))
        a, b = self._inverse_gamma()
        half = 0.5 * self.n_genes
        constant = half * LOG_2PI + torch.lgamma(a) - torch.lgamma(a + half) - a * b.log()
        return (constant + (a + half) * torch.log(b + half * mse_n)).mean() / self.n_genes

    def draw_variance(self, n: int, random: np.random.Generator) -> Tensor:
        """A variance for each sample, from its prior: shape (n, 1)."""
        a, b = self._inverse_gamma()
        return b / torch.as_tensor(random.gamma(float(a), size=(n, 1)), dtype=b.dtype, device=b.device)

    def _inverse_gamma(self) -> tuple[Tensor, Tensor]:
        """Shape a and scale b: log sigma^2 has mean log b - digamma(a) and variance trigamma(a)."""
        a = (1.0 / self.spread + 0.5)[0]  # to second order in 1 / a
        return a, torch.exp(self.log_var[0] + torch.digamma(a))


class PerGeneVariance(Likelihood):
    """Gaussian with a learned variance per gene. It depends on the basis, so it takes genes only."""

    isotropic = False

    def __init__(self, n_genes: int) -> None:
        super().__init__(n_genes)
        self.log_var = nn.Parameter(torch.zeros(n_genes))

    def forward(
        self,
        x_hat_nf: Tensor,
        x_nf: Tensor,
        *,
        weight_nf: Tensor | None = None,
        outside_n: Tensor | None = None,
        size_n: Tensor | None = None,
    ) -> Tensor:
        """See `Likelihood.forward`."""
        assert outside_n is None, "genes only"
        nats_ng = gaussian_nll((x_hat_nf.float() - x_nf).square(), self.log_var)
        return nats_ng.mean() if weight_nf is None else (nats_ng * weight_nf).mean()


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "mse": UnitVariance,
    "shared": SharedVariance,
    "per_sample": SampleVariance,
    "per_gene": PerGeneVariance,
    "negative_binomial": NegativeBinomial,
}
assert set(LIKELIHOODS) == set(get_args(LikelihoodName))
