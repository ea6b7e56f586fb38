"""Likelihoods of standardized expression around the decoder's mean.

Shapes: ``n`` samples, ``g`` genes, ``f`` features: genes, or coordinates in an orthonormal basis.

To add a likelihood: subclass `Likelihood`, implement ``forward``, set the flags that differ, and add a row to `LIKELIHOODS`.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gtex_vae.functional.elbo import LOG_2PI, gaussian_nll, optimal_gaussian_nll
from gtex_vae.nn import distributed as processes

LikelihoodName = Literal["mse", "shared", "per_sample", "per_gene", "negative_binomial"]


MOMENTUM = 0.02  # of running moments, per batch
LN_2 = math.log(2.0)
SHARP = 10.0  # of the softplus: TPM above 1 are what they are, and those at 0 about 0.07
START_LOG_THETA = 2.0


class Likelihood(nn.Module):
    """Interface of all likelihoods, and the Gaussian ones that depend on squared errors alone.

    Parameters
    ----------
    n_genes
        Entries g of a sample.

    Attributes
    ----------
    log_var
        Log variance, one for all genes or one per gene.
    isotropic
        True if the density depends only on each sample's sum of squared errors. It can then be evaluated in any
        orthonormal basis.
    needs_size_factors
        True if ``size_n`` and `set_units` are required: the likelihood is of read counts.
    supports_mode_steps
        True if the posterior mode can be found by steps on squared errors (``model.mode_steps``).
    """

    log_var: Tensor
    isotropic = True
    needs_size_factors = False
    supports_mode_steps = True

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        self.n_genes = n_genes

    def forward(
        self,
        x_hat_nf: Tensor,
        x_nf: Tensor,
        *,
        weight_nf: Tensor | None = None,
        outside_n: Tensor | None = None,
        size_n: Tensor | None = None,
    ) -> Tensor:
        """Compute the mean negative log density per entry, in nats.

        Parameters
        ----------
        x_hat_nf, x_nf
            The decoder's mean and the samples, standardized, shape (n, f).
        weight_nf
            Positive weights with mean 1; ``None``: equal weights.
        outside_n
            Squared error outside the span of the basis, shape (n,); only for isotropic likelihoods.
        size_n
            Size factors, shape (n,): ``obs["size_factor"]`` of the processed data. Ignored unless
            ``needs_size_factors``.

        Returns
        -------
        Tensor
            Scalar.
        """
        return self.nats(mean_square((x_hat_nf.float() - x_nf).square(), weight_nf, outside_n, self.n_genes))

    def nats(self, mse_n: Tensor) -> Tensor:
        """Compute the mean negative log density per entry from each sample's mean squared error."""
        raise NotImplementedError

    def set_units(
        self, *, center_g: Tensor, scale_g: Tensor, length_g: Tensor | None, usual_size: float
    ) -> None:
        """Set how standardized values relate to counts; no effect on densities of standardized expression."""

    @torch.no_grad()
    def sample(self, x_hat_ng: Tensor, random: np.random.Generator) -> Tensor:
        """Draw standardized expression (n, g) around its mean: genes, never coordinates."""
        noise_ng = torch.from_numpy(random.standard_normal(x_hat_ng.shape, dtype=np.float32))
        sd = torch.sqrt(self.draw_variance(len(x_hat_ng), random))
        return x_hat_ng + noise_ng.to(x_hat_ng.device) * sd

    def draw_variance(self, n: int, random: np.random.Generator) -> Tensor:
        """Variances for n samples, of a shape that broadcasts to (n, g)."""
        return self.log_var.exp()


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
        mse = processes.mean(mse)
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
                self.spread.lerp_(processes.mean(off.square().mean()), MOMENTUM)
                self.log_var.add_(MOMENTUM * processes.mean(off.mean()))
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


class NegativeBinomial(Likelihood):
    r"""Read counts, with a dispersion for each gene and the size of each library.

    .. math:: k_{ng} \sim \mathrm{NB}(\mu_{ng}, \theta_g), \quad \mu_{ng} = s_n l_g t(\hat x_{ng}), \quad
        \mathrm{Var}\,k = \mu + \mu^2 / \theta

    where t is the decoder's mean in TPM: :math:`2^y - 1` of its log2(TPM+1) y, kept positive by a softplus. The mean has
    the units of every other likelihood, so the start from a PCA, reconstruction and all metrics except the ELBO are
    unchanged. Counts are recovered from log2(TPM+1) and the library's size without loss.

    Attributes
    ----------
    center_g, scale_g
        Of the `gtex_vae.data.standardize.Standardizer`.
    length_g
        Divisor of each gene's counts; 1 for CPM.
    usual_size
        Size factor used by `sample`.

    References
    ----------
    Robinson and Smyth (2007), Moderated statistical tests for assessing differences in tag abundance; Lopez et al.
    (2018), Deep generative modeling for single-cell transcriptomics.
    """

    isotropic = False
    needs_size_factors = True
    supports_mode_steps = False
    center_g: Tensor
    scale_g: Tensor
    length_g: Tensor
    usual_size: Tensor

    def __init__(self, n_genes: int) -> None:
        super().__init__(n_genes)
        self.log_theta_g = nn.Parameter(torch.full((n_genes,), START_LOG_THETA))
        for name, value in (("center_g", 0.0), ("scale_g", 1.0), ("length_g", 1.0)):
            self.register_buffer(name, torch.full((n_genes,), value))
        self.register_buffer("usual_size", torch.ones(1))

    def set_units(
        self, *, center_g: Tensor, scale_g: Tensor, length_g: Tensor | None, usual_size: float
    ) -> None:
        """Set the standardization, the genes' lengths (``None``: CPM) and the size factor used by `sample`."""
        self.center_g.copy_(center_g)
        self.scale_g.copy_(scale_g)
        self.usual_size.fill_(usual_size)
        if length_g is not None:
            self.length_g.copy_(length_g)

    def counts(self, x_ng: Tensor, size_n: Tensor) -> Tensor:
        """Recover read counts (n, g) from standardized log2(TPM+1) (n, g) and the size of each library (n,)."""
        y_ng = x_ng.double() * self.scale_g + self.center_g
        return (size_n[:, None] * self.length_g * torch.expm1(LN_2 * y_ng)).round().clamp_min(0.0)

    def mean(self, x_hat_ng: Tensor, size_n: Tensor) -> Tensor:
        """Convert the decoder's mean (n, g) to expected counts (n, g)."""
        y_ng = x_hat_ng.double() * self.scale_g + self.center_g
        return size_n[:, None] * self.length_g * torch.expm1(softplus(LN_2 * y_ng, beta=SHARP))

    def forward(
        self,
        x_hat_nf: Tensor,
        x_nf: Tensor,
        *,
        weight_nf: Tensor | None = None,
        outside_n: Tensor | None = None,
        size_n: Tensor | None = None,
    ) -> Tensor:
        """Compute the mean negative log probability of a count, in nats; see `Likelihood.forward`."""
        assert outside_n is None, "genes only"
        if size_n is None:
            raise TypeError("a negative binomial needs the size of each library")
        k_ng, mu_ng, theta_g = (
            self.counts(x_nf, size_n),
            self.mean(x_hat_nf, size_n),
            self.log_theta_g.double().exp(),
        )
        log_total_ng = torch.log(theta_g + mu_ng)
        nats_ng = (
            torch.lgamma(theta_g) + torch.lgamma(k_ng + 1.0) - torch.lgamma(k_ng + theta_g)
            - theta_g * (self.log_theta_g - log_total_ng) - k_ng * (torch.log(mu_ng) - log_total_ng)
        )  # fmt: skip
        return (nats_ng if weight_nf is None else nats_ng * weight_nf).mean().float()

    @torch.no_grad()
    def sample(self, x_hat_ng: Tensor, random: np.random.Generator) -> Tensor:
        """Draw counts of a library of the usual size and standardize them."""
        mean_ng = self.mean(x_hat_ng, self.usual_size).cpu().numpy()
        theta_g = self.log_theta_g.double().exp().cpu().numpy()
        drawn_ng = random.poisson(random.gamma(theta_g, mean_ng / theta_g))
        tpm_ng = torch.from_numpy(drawn_ng).to(x_hat_ng.device) / (self.usual_size * self.length_g)
        return (torch.log2(tpm_ng + 1.0) - self.center_g) / self.scale_g


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "mse": UnitVariance,
    "shared": SharedVariance,
    "per_sample": SampleVariance,
    "per_gene": PerGeneVariance,
    "negative_binomial": NegativeBinomial,
}
assert set(LIKELIHOODS) == set(get_args(LikelihoodName))


def mean_square(
    squared_error_nf: Tensor, weight_nf: Tensor | None, outside_n: Tensor | None, n_genes: int
) -> Tensor:
    """Compute each sample's mean squared error over its genes, shape (n,)."""
    weighted_nf = squared_error_nf if weight_nf is None else squared_error_nf * weight_nf
    total_n = weighted_nf.sum(-1)
    return (total_n if outside_n is None else total_n + outside_n) / n_genes
