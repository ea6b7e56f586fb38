"""Negative binomial likelihood of read counts.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gtex_vae.nn.likelihood import Likelihood

LN_2 = math.log(2.0)
SHARP = 10.0  # sharpness of the softplus: TPM above 1 are unchanged, and TPM of 0 become about 0.07
START_LOG_THETA = 2.0


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
