"""Decoder: latent position to expected expression."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gtex_vae.nn.mlp import MLP, Activation, Norm, xavier_linear, zero_linear


class Decoder(nn.Module):
    r"""Mean of p(x | z), an MLP with a linear output layer.

    .. math:: \hat x = W_o\, h(z) + W_s\, z + b

    where the linear path W_s is there only with ``linear_skip``.

    Parameters
    ----------
    latent_dim
        Width d of the input.
    n_genes
        Width g of the output.
    hidden_dims
        Widths of the MLP, from the latent outwards.
    norm, activation, dropout
        See `gtex_vae.nn.mlp.MLP`.
    linear_skip
        Add the linear path from latent to output.
    n_covariates
        Width k of covariates that the MLP and a linear path to the output, at first 0, take in addition to the latent.
    """

    def __init__(
        self,
        latent_dim: int,
        n_genes: int,
        hidden_dims: Sequence[int],
        *,
        norm: Norm,
        activation: Activation,
        dropout: float,
        linear_skip: bool,
        n_covariates: int = 0,
    ) -> None:
        super().__init__()
        self.mlp = MLP(
            latent_dim + n_covariates, hidden_dims, norm=norm, activation=activation, dropout=dropout
        )
        self.out = xavier_linear(self.mlp.out_features, n_genes)
        self.skip = xavier_linear(latent_dim, n_genes, bias=False) if linear_skip else None
        self.condition = zero_linear(n_covariates, n_genes) if n_covariates else None

    def forward(self, z_nd: Tensor, c_nk: Tensor | None = None) -> Tensor:
        """Expected standardized expression (n, g) at latent positions (n, d), with covariates (n, k)."""
        return self._output(self.mlp(self._input(z_nd, c_nk)), z_nd, c_nk)

    def linearized(
        self, z_nd: Tensor, c_nk: Tensor | None = None
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """What `forward` gives in evaluation, and the product of its transposed Jacobian, (n, g) to (n, d)."""
        h_nh, pull_mlp = self.mlp.linearized(self._input(z_nd, c_nk))

        def pull(slope_ng: Tensor) -> Tensor:
            slope_nd = pull_mlp(slope_ng @ self.out.weight)[:, : z_nd.shape[1]]
            return slope_nd if self.skip is None else slope_nd + slope_ng @ self.skip.weight

        return self._output(h_nh, z_nd, c_nk), pull

    def _input(self, z_nd: Tensor, c_nk: Tensor | None) -> Tensor:
        return z_nd if c_nk is None else torch.cat([z_nd, c_nk], -1)

    def _output(self, h_nh: Tensor, z_nd: Tensor, c_nk: Tensor | None) -> Tensor:
        x_hat_ng = self.out(h_nh)
        if self.skip is not None:
            x_hat_ng = x_hat_ng + self.skip(z_nd)
        return x_hat_ng if self.condition is None else x_hat_ng + self.condition(c_nk)
