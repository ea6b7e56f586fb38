"""Interface of a likelihood of standardized expression around the decoder's mean.

Shapes: ``n`` samples, ``g`` genes, ``f`` features: genes, or coordinates in an orthonormal basis.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


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


def mean_square(
    squared_error_nf: Tensor, weight_nf: Tensor | None, outside_n: Tensor | None, n_genes: int
) -> Tensor:
    """Compute each sample's mean squared error over its genes, shape (n,)."""
    weighted_nf = squared_error_nf if weight_nf is None else squared_error_nf * weight_nf
    total_n = weighted_nf.sum(-1)
    return (total_n if outside_n is None else total_n + outside_n) / n_genes
