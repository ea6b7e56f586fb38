"""The variational autoencoder of bulk expression.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gtex_vae.errors import ConfigError
from gtex_vae.functional.elbo import sample_posterior
from gtex_vae.functional.masking import hide
from gtex_vae.nn.decoder import Decoder
from gtex_vae.nn.encoder import Encoder
from gtex_vae.nn.likelihoods import LIKELIHOODS, LikelihoodName
from gtex_vae.nn.mlp import Activation, Norm

REFINEMENTS = 3  # rounds of filling in and encoding again; further ones change R2 in the fourth decimal
QUIET = 0.1  # factor on the MLPs' output layers at the start, where the linear paths are a PCA


@dataclass(frozen=True)
class VAEOutput:
    """What one pass of the model gives.

    Attributes
    ----------
    mu_nd, log_var_nd
        Parameters of the posterior q(z | x), shape (n, d).
    z_nd
        Where the decoder was evaluated: a posterior sample in training, the mean in evaluation; shape (n, d).
    x_hat_ng
        Mean of p(x | z), shape (n, g), in standardized units.
    """

    mu_nd: Tensor
    log_var_nd: Tensor
    z_nd: Tensor
    x_hat_ng: Tensor


class VAE(nn.Module):
    r"""Variational autoencoder with mirrored MLPs and linear paths around them.

    .. math:: z \sim N(0, I), \quad x \mid z \sim N(f(z), \sigma^2), \quad q(z \mid x) = N(\mu(x), \mathrm{diag}\,\sigma(x)^2)

    Parameters
    ----------
    n_genes
        Number of genes g.
    latent_dim
        Number of latent dimensions d, from 1 to ``n_genes``.
    hidden_dims
        Widths of the encoder's layers; the decoder has them in reverse.
    likelihood
        ``shared``: one variance for all genes, optimal in closed form (sigma-VAE); ``per_gene``: a learned variance
        for each gene; ``mse``: variance 1 (the published loss together with ``objective.kl_reduction=mean``).
    norm
        ``batch``, ``layer`` or ``none``.
    activation
        ``elu``, ``relu``, ``gelu`` or ``silu``.
    dropout
        In the encoder, in [0, 1).
    decoder_dropout
        In the decoder, in [0, 1). It costs reconstruction; the published set-up has it.
    linear_skip
        Linear paths around encoder and decoder, so that PCA is the special case with nothing in the MLPs.

    Raises
    ------
    ConfigError
        A value is impossible; the message names its config key.

    References
    ----------
    Kingma and Welling (2014), Auto-Encoding Variational Bayes.

    Examples
    --------
    >>> import torch
    >>> vae = VAE(n_genes=20, latent_dim=3, hidden_dims=[8]).eval()
    >>> vae(torch.zeros(5, 20)).mu_nd.shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        n_genes: int,
        latent_dim: int = 64,
        hidden_dims: Sequence[int] = (1024,),
        *,
        likelihood: LikelihoodName = "shared",
        norm: Norm = "batch",
        activation: Activation = "elu",
        dropout: float = 0.1,
        decoder_dropout: float = 0.0,
        linear_skip: bool = True,
    ) -> None:
        super().__init__()
        if not 1 <= latent_dim <= n_genes:
            raise ConfigError(
                f"model.latent_dim={latent_dim} must lie between 1 and the number of genes, {n_genes}"
            )
        if any(width < 1 for width in hidden_dims):
            raise ConfigError(f"model.hidden_dims={list(hidden_dims)} must hold positive widths only")
        for key, value in (("dropout", dropout), ("decoder_dropout", decoder_dropout)):
            if not 0.0 <= value < 1.0:
                raise ConfigError(f"model.{key}={value} must lie in [0, 1)")
        self.n_genes, self.latent_dim = n_genes, latent_dim
        shared: dict[str, Any] = {"norm": norm, "activation": activation, "linear_skip": linear_skip}
        self.encoder = Encoder(n_genes, latent_dim, hidden_dims, dropout=dropout, **shared)
        self.decoder = Decoder(
            latent_dim, n_genes, list(hidden_dims)[::-1], dropout=decoder_dropout, **shared
        )
        self.likelihood = LIKELIHOODS[likelihood](n_genes)

    def forward(self, x_ng: Tensor) -> VAEOutput:
        """Encode, sample (in training; the mean is taken in evaluation) and decode standardized expression (n, g)."""
        mu_nd, log_var_nd = self.encoder(x_ng)
        z_nd = sample_posterior(mu_nd, log_var_nd) if self.training else mu_nd
        return VAEOutput(mu_nd, log_var_nd, z_nd, self.decoder(z_nd))

    @torch.no_grad()
    def start_from_pca(self, components_dg: Tensor, variance_d: Tensor) -> None:
        r"""Set the linear paths to a PCA with whitened scores, and quieten the MLPs' part in the result.

        .. math:: W_s^{enc} = \Lambda^{-1/2} V, \qquad W_s^{dec} = V^\top \Lambda^{1/2}

        Training then starts at the reconstruction of a PCA, with scores distributed as the prior, instead of finding
        it first.

        Parameters
        ----------
        components_dg
            Orthonormal components V, the strongest first; no more than ``latent_dim`` of them.
        variance_d
            Variance of each.
        """
        assert self.encoder.skip is not None
        assert self.decoder.skip is not None
        found = len(components_dg)
        sd_d = variance_d.clamp_min(1e-12).sqrt()
        self.encoder.skip.weight[:found] = components_dg / sd_d[:, None]
        self.decoder.skip.weight[:, :found] = (components_dg * sd_d[:, None]).T
        for layer in (self.encoder.mu, self.decoder.out):
            layer.weight.mul_(QUIET)

    def embed(self, x_ng: Tensor, observed_ng: Tensor | None = None) -> Tensor:
        """Posterior mean (n, d), the embedding, of standardized expression (n, g); never a sample."""
        return self.encoder(x_ng if observed_ng is None else hide(x_ng, observed_ng))[0]

    def reconstruct(self, x_ng: Tensor, observed_ng: Tensor | None = None) -> Tensor:
        """Decoded posterior mean (n, g), completing hidden entries.

        Entries with ``observed_ng`` 0 are first left out of the input; then, a few times over, they are filled with
        what was predicted for them and the sample is encoded as a whole one, which it resembles ever more.

        References
        ----------
        Rezende, Mohamed and Wierstra (2014), Stochastic Backpropagation, appendix F, here with means for samples.
        """
        x_hat_ng: Tensor = self.decoder(self.embed(x_ng, observed_ng))
        if observed_ng is not None:
            for _ in range(REFINEMENTS):
                x_hat_ng = self.decoder(self.embed(torch.where(observed_ng.bool(), x_ng, x_hat_ng)))
        return x_hat_ng
