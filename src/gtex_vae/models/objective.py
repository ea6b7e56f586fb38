"""Training objective: the negative ELBO and its variants.

Shapes: ``n`` samples, ``g`` genes, ``f`` features (genes, or their coordinates in a basis), ``d`` latent dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from gtex_vae.errors import ConfigError
from gtex_vae.functional.elbo import free_bits, kl_standard_normal
from gtex_vae.models.vae import VAEOutput
from gtex_vae.nn.likelihood import Likelihood, mean_square


@dataclass(frozen=True)
class ObjectiveTerms:
    """Objective and its terms, averaged over the batch.

    Attributes
    ----------
    loss
        Minimized value, per gene, so that its size does not depend on the number of genes; scalar.
    nll_nats
        Negative log likelihood of a sample; scalar, nats.
    kl_d
        KL per latent dimension; shape (d,), nats.
    mse
        Mean squared error over all entries, hidden or not; scalar, standardized units.
    """

    loss: Tensor
    nll_nats: Tensor
    kl_d: Tensor
    mse: Tensor


class Objective:
    r"""Negative evidence lower bound with a weight on the KL, per gene.

    .. math:: \mathcal L = \frac1G \big( -\log p(x \mid z) + \beta\, \mathrm{KL} \big)

    Parameters
    ----------
    kl_reduction
        ``sum``: nats per sample, so that ``beta=1`` is the ELBO. ``mean``: the published loss, a squared error
        averaged over G genes plus a KL averaged over D dimensions, which is the ELBO of a unit-variance Gaussian
        with an effective beta of ``beta * G / (2 D)`` (up to a factor G / 2, which does not change the optimum).
    free_bits
        Minimum KL counted per dimension, in nats.
    hidden_share
        Share of the likelihood that comes from the hidden entries of masked batches; 1 trains on hidden entries
        only. ``None``: all entries have equal weight.

    Raises
    ------
    ConfigError
        A value is out of range; the message names its config key.

    References
    ----------
    Kingma and Welling (2014); Higgins et al. (2017), beta-VAE; Burgess et al. (2018) for the capacity.
    """

    def __init__(
        self,
        *,
        kl_reduction: Literal["sum", "mean"] = "sum",
        free_bits: float = 0.0,
        hidden_share: float | None = None,
    ) -> None:
        if free_bits < 0.0:
            raise ConfigError(f"objective.free_bits={free_bits} must not be negative")
        if hidden_share is not None and not 0.0 <= hidden_share <= 1.0:
            raise ConfigError(f"objective.hidden_share={hidden_share} must be in [0, 1] or null")
        self.kl_reduction = kl_reduction
        self.free_bits = free_bits
        self.hidden_share = hidden_share

    def __call__(
        self,
        likelihood: Likelihood,
        output: VAEOutput,
        x_nf: Tensor,
        *,
        beta: float | Tensor,
        capacity: float | Tensor | None = None,
        observed_ng: Tensor | None = None,
        outside_n: Tensor | None = None,
        size_n: Tensor | None = None,
    ) -> ObjectiveTerms:
        """Evaluate the objective on one batch.

        Parameters
        ----------
        likelihood
            The model's likelihood module.
        output
            The model's output for the batch.
        x_nf
            Target of the decoder, shape (n, f): genes, or coordinates in an orthonormal basis.
        beta
            Weight of the KL at this step.
        capacity
            Target C of the KL in nats, with the penalty ``beta * |KL - C|``.
        observed_ng
            0 where the input was hidden, shape (n, g); ``None``: nothing was hidden.
        outside_n
            Squared norm of the part outside the span of the basis, shape (n,); ``None``: zero.
        size_n
            Size factors of the libraries, shape (n,), for a likelihood of counts.
        """
        n_genes, latent_dim = likelihood.n_genes, output.mu_nd.shape[-1]
        nll_nats = n_genes * likelihood(
            output.x_hat_nf, x_nf, weight_nf=self._weights(observed_ng), outside_n=outside_n, size_n=size_n
        )
        squared_error_nf = (output.x_hat_nf.detach().float() - x_nf).square()
        kl_nd = kl_standard_normal(output.mu_nd.float(), output.log_var_nd.float())
        penalty = free_bits(kl_nd, self.free_bits)
        if capacity is not None:
            penalty = (penalty - capacity).abs()
        if self.kl_reduction == "mean":
            penalty = penalty * (n_genes / (2.0 * latent_dim))
        return ObjectiveTerms(
            loss=(nll_nats + beta * penalty) / n_genes,
            nll_nats=nll_nats.detach(),
            kl_d=kl_nd.detach().mean(0),
            mse=mean_square(squared_error_nf, None, outside_n, n_genes).mean(),
        )

    def _weights(self, observed_ng: Tensor | None) -> Tensor | None:
        """Compute weights of mean 1 that give hidden entries their share."""
        if observed_ng is None or self.hidden_share is None:
            return None
        observed_fraction = observed_ng.mean().clamp(1e-6, 1.0 - 1e-6)
        seen = (1.0 - self.hidden_share) / observed_fraction
        hidden = self.hidden_share / (1.0 - observed_fraction)
        return hidden + (seen - hidden) * observed_ng
