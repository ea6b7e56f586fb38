"""What the embedding uses of its room.

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
    r"""KL of each dimension's posterior from the standard normal prior, averaged over samples.

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
