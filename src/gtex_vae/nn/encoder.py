"""Encoder: expression to the parameters of a diagonal Gaussian posterior."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gtex_vae.nn.mlp import MLP, Activation, Norm, xavier_linear, zero_linear

START_LOG_VAR = -3.0
LOG_VAR_RANGE = (-12.0, 6.0)  # nats; keeps exp() far from overflow in half precision


class Encoder(nn.Module):
    r"""q(z | x) = N(mu(x), diag(sigma(x)^2)), an MLP with two heads.

    .. math:: \mu = W_\mu\, h(x) + W_s\, x, \qquad \log\sigma^2 = W_\sigma\, h(x)

    where the linear path W_s is there only with ``linear_skip``: it lets the mean be a linear map of the input, as in
    PCA, and leaves to the MLP what is not linear.

    Parameters
    ----------
    n_genes
        Width g of the input.
    latent_dim
        Width d of the posterior.
    hidden_dims
        Widths of the MLP.
    norm, activation, dropout
        See `gtex_vae.nn.mlp.MLP`.
    linear_skip
        Add the linear path from input to mean.
    n_covariates
        Width k of covariates that the MLP and a linear path to the mean, at first 0, take in addition to the input.
    """

    def __init__(
        self,
        n_genes: int,
        latent_dim: int,
        hidden_dims: Sequence[int],
        *,
        norm: Norm,
        activation: Activation,
        dropout: float,
        linear_skip: bool,
        n_covariates: int = 0,
    ) -> None:
        super().__init__()
        self.mlp = MLP(n_genes + n_covariates, hidden_dims, norm=norm, activation=activation, dropout=dropout)
        self.mu = xavier_linear(self.mlp.out_features, latent_dim)
        self.log_var = xavier_linear(self.mlp.out_features, latent_dim)
        # narrow posteriors at the start: noise of variance 1 would hide the mean
        nn.init.zeros_(self.log_var.weight)
        nn.init.constant_(self.log_var.bias, START_LOG_VAR)
        self.skip = xavier_linear(n_genes, latent_dim, bias=False) if linear_skip else None
        self.condition = zero_linear(n_covariates, latent_dim) if n_covariates else None

    def forward(self, x_ng: Tensor, c_nk: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Posterior mean and log variance, each (n, d), of standardized expression (n, g) and covariates (n, k)."""
        h_nh = self.mlp(x_ng if c_nk is None else torch.cat([x_ng, c_nk], -1))
        mu_nd = self.mu(h_nh)
        if self.skip is not None:
            mu_nd = mu_nd + self.skip(x_ng)
        if self.condition is not None:
            mu_nd = mu_nd + self.condition(c_nk)
        return mu_nd, torch.clamp(self.log_var(h_nh), *LOG_VAR_RANGE)
