"""Gene embeddings of a trained VAE.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions, ``h`` hidden units.
"""

from __future__ import annotations

import numpy as np
import torch

from gtex_vae.models.vae import VAE

WHITENING = 0.75  # 0 keeps the covariance of the loadings, 1 whitens them; chosen on GTEx v6 and a fifth of the gene sets
SAMPLES = 512


def decoder_jacobian(vae: VAE, z_nd: np.ndarray, *, seed: int = 0) -> np.ndarray:
    r"""Jacobian of the decoder's mean, averaged over samples: the nonlinear model's loadings.

    .. math:: J_{gd} = \tfrac1n \sum_n \partial f_g(z_n) / \partial z_d

    Parameters
    ----------
    vae
        In evaluation mode.
    z_nd
        Embedded training samples; at most 512 of them, drawn with ``seed``, are used.
    seed
        Of the draw.

    Returns
    -------
    ndarray of float32
        Shape (g, d), standardized expression per unit of latent.
    """
    rows = np.random.default_rng(seed).permutation(len(z_nd))[:SAMPLES]
    z = torch.as_tensor(z_nd[np.sort(rows)], device=next(vae.parameters()).device)
    columns_f = []
    with torch.no_grad():
        for d in range(z.shape[1]):
            direction_nd = torch.zeros_like(z)
            direction_nd[:, d] = 1.0
            columns_f.append(torch.func.jvp(vae.decode_features, (z,), (direction_nd,))[1].mean(0))
        jacobian_gd = vae.expand(torch.stack(columns_f)).T
    return jacobian_gd.float().cpu().numpy()


def gene_embedding(jacobian_gd: np.ndarray, z_nd: np.ndarray) -> np.ndarray:
    r"""Loadings freed from their common direction and most of their covariance: what gene similarity is judged by.

    With :math:`L L^\top = \mathrm{Cov}(z)` the matrix :math:`J L` does not depend on the choice of latent axes. Its
    mean over genes is taken off, and its singular values are raised to 1 - 0.75:

    .. math:: J L - \mathbf 1 \bar m^\top = U S V^\top, \qquad E = U S^{1 - 0.75}

    Parameters
    ----------
    jacobian_gd
        As `decoder_jacobian` gives it.
    z_nd
        Embedded training samples.

    Returns
    -------
    ndarray of float32
        Shape (g, d); compare genes by cosine.
    """
    covariance_dd = np.atleast_2d(np.cov(z_nd, rowvar=False)).astype(np.float64)
    covariance_dd += 1e-6 * np.trace(covariance_dd) / len(covariance_dd) * np.eye(len(covariance_dd))
    loadings_gd = jacobian_gd @ np.linalg.cholesky(covariance_dd)
    left_gd, singular_d, _ = np.linalg.svd(loadings_gd - loadings_gd.mean(0), full_matrices=False)
    return np.asarray(left_gd * singular_d ** (1.0 - WHITENING), dtype=np.float32)
