"""Use of the latent dimensions: active units, KL, effective rank, correlations.

Shapes: n samples, d latent dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ACTIVE_VARIANCE = 0.01


def active_units(mu_nd: NDArray[np.floating], threshold: float = ACTIVE_VARIANCE) -> int:
    """Count the dimensions whose posterior mean has a variance over samples above ``threshold``.

    Parameters
    ----------
    mu_nd
        Posterior means, shape (n, d).
    threshold
        Smallest variance that counts.

    Returns
    -------
    int
        Between 0 and d.

    References
    ----------
    Burda, Grosse, Salakhutdinov (2016), Importance Weighted Autoencoders, section 5.1.

    Examples
    --------
    >>> active_units(np.array([[0.0, 1.0], [0.0, -1.0]]))
    1
    """
    return int((np.var(mu_nd, axis=0, dtype=np.float64) > threshold).sum())


def kl_per_dimension(mu_nd: NDArray[np.floating], logvar_nd: NDArray[np.floating]) -> NDArray[np.float64]:
    r"""Compute the KL divergence of each dimension's posterior from the standard normal prior, averaged over samples.

    .. math:: \frac{1}{2N} \sum_n \mu_{nd}^2 + \sigma_{nd}^2 - \ln \sigma_{nd}^2 - 1

    Its sum over dimensions is ``rate/kl_nats``.

    Parameters
    ----------
    mu_nd, logvar_nd
        Mean and log variance of the posteriors, shape (n, d).

    Returns
    -------
    ndarray of float64
        Nats per sample, shape (d,).

    Examples
    --------
    >>> kl_per_dimension(np.full((5, 2), 2.0), np.zeros((5, 2)))
    array([2., 2.])
    """
    mu = np.asarray(mu_nd, dtype=np.float64)
    logvar = np.asarray(logvar_nd, dtype=np.float64)
    return 0.5 * (mu**2 + np.expm1(logvar) - logvar).mean(axis=0)


def effective_rank(mu_nd: NDArray[np.floating]) -> float:
    r"""Compute the effective number of dimensions of the embedding, between 1 and d.

    .. math:: \exp\Big(-\sum_d p_d \ln p_d\Big), \quad p_d = \lambda_d / \sum_d \lambda_d

    with the eigenvalues :math:`\lambda` of the covariance of the posterior means. Unlike active units, it accounts for
    correlated dimensions, and it is invariant to rotation and to a common scale.

    Parameters
    ----------
    mu_nd
        Posterior means, shape (n, d).

    Returns
    -------
    float
        NaN if the embedding is constant.

    References
    ----------
    Roy, Vetterli (2007), The effective rank, EUSIPCO.

    Examples
    --------
    >>> round(effective_rank(np.array([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])), 6)
    2.0
    """
    centred_nd = np.asarray(mu_nd, dtype=np.float64) - np.mean(mu_nd, axis=0, dtype=np.float64)
    variance_d = np.linalg.eigvalsh(centred_nd.T @ centred_nd)
    if variance_d[-1] <= 0:
        return float("nan")
    share_d = np.clip(variance_d / variance_d.sum(), 1e-300, None)
    return float(np.exp(-(share_d * np.log(share_d)).sum()))


def latent_correlations(mu_nd: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute Pearson correlations between latent dimensions over samples.

    Parameters
    ----------
    mu_nd
        Posterior means, shape (n, d).

    Returns
    -------
    ndarray of float64
        Shape (d, d), with ones on the diagonal; 0 for constant dimensions.

    Examples
    --------
    >>> latent_correlations(np.array([[1.0, -2.0], [2.0, -4.0], [4.0, -8.0]])).round(6).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    mu_nd = np.asarray(mu_nd, dtype=np.float64)
    centred_nd = mu_nd - mu_nd.mean(axis=0)
    length_d = np.linalg.norm(centred_nd, axis=0)
    varies_d = length_d > 1e-9 * np.linalg.norm(mu_nd, axis=0)
    unit_nd = np.divide(centred_nd, length_d, out=np.zeros_like(centred_nd), where=varies_d)
    correlation_dd = np.clip(unit_nd.T @ unit_nd, -1, 1)
    np.fill_diagonal(correlation_dd, 1)
    return correlation_dd
