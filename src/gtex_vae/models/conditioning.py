"""Initialisation of a conditional VAE, and removal of linear covariate effects from its latent space.

Shapes: ``n`` samples, ``f`` features (genes, or their coordinates in a basis), ``d`` latent dimensions, ``k`` columns of
the covariates' design matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gtex_vae.functional.within_groups import effects_within
from gtex_vae.models.pca import PCA
from gtex_vae.models.vae import VAE


@torch.no_grad()
def start_conditional(vae: VAE, y_nf: Tensor, c_nk: Tensor, group_n: Tensor) -> None:
    """Initialise the linear paths from covariate effects within groups and a PCA of the residuals.

    A PCA of the expression itself would put the covariates into the latent space, and training would hardly remove
    them: that saves a nat or two among thousands.

    Parameters
    ----------
    vae
        Conditional VAE; its basis, if any, must be set already.
    y_nf
        Features of the training samples.
    c_nk
        Their covariates' design matrix.
    group_n
        Index of each sample's tissue; differences between tissues stay in the latent space.
    """
    effect_kf = effects_within(y_nf, c_nk, group_n)
    pca = PCA.fit((y_nf - c_nk @ effect_kf).numpy(), vae.latent_dim)
    components_df = torch.from_numpy(pca.components_dg)
    vae.set_linear_paths(components_df, torch.from_numpy(pca.variance_d))
    found = len(components_df)
    for encoder, decoder in zip(vae.encoders, vae.decoders, strict=True):
        assert encoder.condition is not None
        assert decoder.condition is not None
        if encoder.skip is not None:
            encoder.condition.weight[:found] = -encoder.skip.weight[:found] @ effect_kf.T
        decoder.condition.weight.copy_(effect_kf.T)
    vae.guess_fk.copy_(guesses(y_nf, c_nk))


def guesses(y_nf: Tensor, c_nk: Tensor) -> Tensor:
    """Compute weights (f, k) of ridge regressions that predict covariates from features.

    The penalty equals the number of samples, which shrinks directions with a variance well below 1.
    """
    y_nf, c_nk = y_nf.double(), c_nk.double()
    n, f = y_nf.shape
    if f <= n:
        return torch.linalg.solve(y_nf.T @ y_nf + n * torch.eye(f, dtype=y_nf.dtype), y_nf.T @ c_nk).float()
    return (y_nf.T @ torch.linalg.solve(y_nf @ y_nf.T + n * torch.eye(n, dtype=y_nf.dtype), c_nk)).float()


@torch.no_grad()
def free_latent(vae: VAE, y_nf: Tensor, c_nk: Tensor, group_n: Tensor) -> None:
    r"""Move linear covariate effects within groups from the latent space to the decoder, exactly.

    .. math:: z' = z - A^\top c, \qquad f'(z', c) = f(z' + A^\top c, c)

    with A the effects on the posterior means of the training samples. A is folded into the weights of the covariates;
    reconstructions do not change.

    Parameters
    ----------
    vae
        Trained conditional VAE in evaluation mode.
    y_nf, c_nk, group_n
        As for `start_conditional`.
    """
    effect_kd = effects_within(vae.encode_features(y_nf, c_nk)[0], c_nk, group_n)
    d = vae.latent_dim
    for encoder, decoder in zip(vae.encoders, vae.decoders, strict=True):
        assert encoder.condition is not None
        assert decoder.condition is not None
        encoder.condition.weight -= effect_kd.T
        first = next((layer for layer in decoder.mlp if isinstance(layer, nn.Linear)), decoder.out)
        first.weight[:, d:] += first.weight[:, :d] @ effect_kd.T
        if decoder.skip is not None:
            decoder.condition.weight += decoder.skip.weight @ effect_kd.T
