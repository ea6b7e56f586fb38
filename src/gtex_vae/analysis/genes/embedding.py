"""Gene embeddings of a trained VAE.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions, ``h`` hidden units, ``f`` features (genes, or their
coordinates in a basis), ``m`` members of an ensemble.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtex_vae.models.vae import VAE
from gtex_vae.nn.decoder import Decoder

# WHITENING and NEIGHBOURS were chosen on GTEx v6 with a fifth of the gene sets
WHITENING = 0.75  # 0 keeps the covariance of the loadings, 1 whitens them
NEIGHBOURS = 5
SAMPLES = 512
SCATTER_SAMPLES = 4096
DIRECTIONS = 8  # Jacobian columns computed at a time

DECODER_LOADINGS, OUTPUT_WEIGHTS = "decoder_loadings", "output_weights"


def model_embeddings(
    vae: VAE, jacobian_gd: NDArray[np.floating], z_nd: NDArray[np.floating]
) -> dict[str, NDArray[np.float32]]:
    """Compute the gene embeddings of a VAE.

    Parameters
    ----------
    vae
        In evaluation mode.
    jacobian_gd
        See `decoder_jacobian`.
    z_nd
        Embedded training samples.

    Returns
    -------
    dict
        ``decoder_loadings``, the `gene_embedding` of the Jacobian, and ``output_weights``, the whitened
        `output_weights`; each of shape (g, d). Compare genes by cosine.
    """
    return {
        DECODER_LOADINGS: gene_embedding(jacobian_gd, z_nd),
        OUTPUT_WEIGHTS: whiten(output_weights(vae), vae.latent_dim),
    }


def decoder_jacobian(vae: VAE, z_nd: np.ndarray, *, seed: int = 0) -> np.ndarray:
    r"""Average the Jacobian of the decoder's mean over samples: the loadings of the nonlinear model.

    .. math:: J_{gd} = \tfrac1n \sum_n \partial f_g(z_n) / \partial z_d

    Parameters
    ----------
    vae
        In evaluation mode.
    z_nd
        Embedded training samples; at most 512 of them, drawn at random, are used.
    seed
        Seed of the draw.

    Returns
    -------
    ndarray of float32
        Shape (g, d), standardized expression per unit of latent.
    """
    rows = np.random.default_rng(seed).permutation(len(z_nd))[:SAMPLES]
    z = torch.as_tensor(z_nd[np.sort(rows)], device=next(vae.parameters()).device)
    with torch.no_grad():
        jacobian_fd = torch.stack([_mean_jacobian(vae, decoder, z) for decoder in vae.decoders]).mean(0)
        jacobian_gd = vae.expand(jacobian_fd.T).T
    return jacobian_gd.float().cpu().numpy()


def _mean_jacobian(vae: VAE, decoder: Decoder, z_nd: Tensor) -> Tensor:
    """Average one decoder's Jacobian over samples, shape (f, d).

    The last layer is linear, so the Jacobian of its input is averaged, which is smaller.
    """
    c_nk = vae.covariates(None, len(z_nd))

    def hidden(at_nd: Tensor) -> Tensor:
        h_nh: Tensor = decoder.mlp(at_nd if c_nk is None else torch.cat([at_nd, c_nk], -1))
        return h_nh

    def along(direction_d: Tensor) -> Tensor:
        change_nh: Tensor = torch.func.jvp(hidden, (z_nd,), (direction_d.expand_as(z_nd),))[1]
        return change_nh.mean(0)

    axes_dd = torch.eye(z_nd.shape[1], dtype=z_nd.dtype, device=z_nd.device)
    hidden_dh = torch.func.vmap(along, chunk_size=DIRECTIONS)(axes_dd)
    jacobian_fd = decoder.out.weight @ hidden_dh.T
    return jacobian_fd if decoder.skip is None else jacobian_fd + decoder.skip.weight


def gene_embedding(jacobian_gd: np.ndarray, z_nd: np.ndarray) -> np.ndarray:
    r"""Scale the loadings by the scatter of similar samples and whiten them.

    With :math:`L L^\top` the scatter of samples around the mean of their five nearest neighbours, :math:`J L` does not
    depend on the choice of latent axes. It weights variation among similar samples, not differences between tissues.

    Parameters
    ----------
    jacobian_gd
        See `decoder_jacobian`.
    z_nd
        Embedded training samples.

    Returns
    -------
    ndarray of float32
        Shape (g, d); compare genes by cosine.
    """
    return whiten(jacobian_gd @ _scatter_root(z_nd), jacobian_gd.shape[1])


def _scatter_root(z_nd: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the lower triangular root L of the scatter of points around the mean of their nearest neighbours."""
    from sklearn.neighbors import NearestNeighbors

    rows = np.unique(np.linspace(0, len(z_nd) - 1, SCATTER_SAMPLES).astype(int))
    z_nd = np.asarray(z_nd[rows], dtype=np.float64)
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(z_nd) - 1), algorithm="brute").fit(z_nd)
    apart_nd = z_nd - z_nd[near.kneighbors(return_distance=False)].mean(axis=1)
    scatter_dd = np.atleast_2d(np.cov(apart_nd, rowvar=False))
    scatter_dd += 1e-6 * np.trace(scatter_dd) / len(scatter_dd) * np.eye(len(scatter_dd))
    return np.linalg.cholesky(scatter_dd)


@torch.no_grad()
def output_weights(vae: VAE) -> NDArray[np.float32]:
    r"""Return the weights of the decoder's last layer in gene space.

    The model's mean is linear in the last hidden units of all ensemble members and, with a linear path, in the latent,

    .. math:: \hat x = B^\top \tfrac1m \big( [W_1 \dots W_m]\, (h_1, \dots, h_m) + \textstyle\sum_m S_m\, z \big) + b,

    with the model's basis B, if any. The matrix has a column per hidden unit; it is rotated to the fewest columns that
    preserve all inner products between genes.

    Parameters
    ----------
    vae
        Any VAE.

    Returns
    -------
    ndarray of float32
        Shape (g, f) or smaller.
    """
    parts = [decoder.out.weight for decoder in vae.decoders]
    skips = [decoder.skip.weight for decoder in vae.decoders if decoder.skip is not None]
    if skips:
        parts.append(torch.stack(skips).sum(0))
    weights_fh = (torch.cat(parts, dim=1) / len(vae.decoders)).double()
    if weights_fh.shape[0] < weights_fh.shape[1]:
        # W W^T = R R^T: the rows of R have the same inner products as those of W
        square_f, axes_ff = torch.linalg.eigh(weights_fh @ weights_fh.T)
        weights_fh = axes_ff * square_f.clamp_min(0.0).sqrt()
    return vae.expand(weights_fh.T.float()).T.cpu().numpy()


def whiten(loadings_gf: NDArray[np.floating], dimensions: int) -> NDArray[np.float32]:
    r"""Center loadings over genes, project on the leading axes and shrink the singular values.

    .. math:: A - \mathbf 1 \bar a^\top = U S V^\top, \qquad E = U_d S_d^{1 - 0.75}

    Parameters
    ----------
    loadings_gf
        One row per gene.
    dimensions
        Number d of leading axes to keep.

    Returns
    -------
    ndarray of float32
        Shape (g, d).
    """
    from scipy.linalg import eigh

    centred_gf = np.asarray(loadings_gf - loadings_gf.mean(0), dtype=np.float64)
    last = centred_gf.shape[1] - 1
    kept = [max(last + 1 - dimensions, 0), last]
    square_d, axes_fd = eigh(centred_gf.T @ centred_gf, subset_by_index=kept, check_finite=False)
    singular_d = np.sqrt(np.maximum(square_d, 1e-14 * max(square_d[-1], 1e-300)))
    return np.asarray((centred_gf @ (axes_fd * singular_d**-WHITENING))[:, ::-1], dtype=np.float32)
