"""Disentanglement of known factors: mutual information, MIG and DCI.

Shapes: n samples, d latent dimensions, f factors.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BINS = 20


def mutual_information(
    z_nd: NDArray[np.floating],
    factors: pd.DataFrame,
    *,
    bins: int = BINS,
    seed: int | None = None,
) -> pd.DataFrame:
    """Estimate the mutual information of each latent dimension with each factor, in nats.

    Continuous values are binned by quantiles. In finite samples the estimate is too large by about
    ``bins * classes / (2 n)``, which matters for hundreds of donors. With a ``seed``, the information about a shuffled
    factor is subtracted.

    Parameters
    ----------
    z_nd
        Embedding, shape (n, d).
    factors
        One column per factor, f columns. Floats are continuous, other types are classes. Rows in which a factor is missing
        are skipped for that factor.
    bins
        Number of bins.
    seed
        Seed of the shuffles; None for the plain estimate.

    Returns
    -------
    DataFrame
        d rows, one column per factor.

    Examples
    --------
    >>> z_nd = np.repeat([[0.0], [1.0]], 50, axis=0)
    >>> float(mutual_information(z_nd, pd.DataFrame({"sex": ["F"] * 50 + ["M"] * 50})).loc[0, "sex"].round(4))
    0.6931
    """
    from sklearn.metrics import mutual_info_score

    codes_nd = np.column_stack([_codes(pd.Series(z_n), bins) for z_n in z_nd.T])
    table = {}
    for name in factors:
        codes_n = _codes(factors[name], bins)
        known = codes_n >= 0
        table[name] = np.array(
            [mutual_info_score(codes_n[known], latent_n) for latent_n in codes_nd[known].T]
        )
        if seed is not None:
            shuffled_n = np.random.default_rng(seed).permutation(codes_n[known])
            by_chance = [mutual_info_score(shuffled_n, latent_n) for latent_n in codes_nd[known].T]
            table[name] = np.maximum(table[name] - by_chance, 0)
    return pd.DataFrame(table)


def mutual_information_gap(z_nd: NDArray[np.floating], factors: pd.DataFrame, *, bins: int = BINS) -> float:
    """Compute MIG, between 0 and 1, averaged over factors: 1 if a single dimension has all information on a factor.

    The difference between the largest and the second largest mutual information, as a share of the factor's
    entropy.

    Parameters
    ----------
    z_nd, factors, bins
        As for :func:`mutual_information`; at least two dimensions.

    Returns
    -------
    float
        NaN if no factor varies.

    References
    ----------
    Chen, Li, Grosse, Duvenaud (2018), Isolating sources of disentanglement in VAEs, NeurIPS, equation 6.
    """
    information = mutual_information(z_nd, factors, bins=bins)
    gaps = []
    for name in factors:
        codes_n = _codes(factors[name], bins)
        share = np.bincount(codes_n[codes_n >= 0]) / max((codes_n >= 0).sum(), 1)
        entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
        if entropy > 0:
            second, first = np.sort(information[name])[-2:]
            gaps.append((first - second) / entropy)
    return float(np.mean(gaps)) if gaps else float("nan")


def dci(z_nd: NDArray[np.floating], factors: pd.DataFrame, *, seed: int = 0) -> dict[str, float]:
    """Compute disentanglement, completeness and informativeness from feature importances of random forests.

    Disentanglement is high if each dimension is important for one factor only, completeness if one dimension is important
    for each factor. Informativeness is the out-of-bag R2 or accuracy of the prediction of factors.

    Parameters
    ----------
    z_nd
        Embedding, shape (n, d).
    factors
        One column per factor, without missing values. Floats are continuous, other types are classes.
    seed
        Seed of the forests.

    Returns
    -------
    dict
        ``latent/dci_disentanglement``, ``latent/dci_completeness``, ``latent/dci_informativeness``.

    References
    ----------
    Eastwood, Williams (2018), A framework for the quantitative evaluation of disentangled representations, ICLR.
    """
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    importance_df = np.empty((z_nd.shape[1], factors.shape[1]))
    scores = []
    for column, name in enumerate(factors):
        continuous = pd.api.types.is_float_dtype(factors[name])
        # every split considers all dimensions: with a random subset, irrelevant ones would get some importance
        forest = (RandomForestRegressor if continuous else RandomForestClassifier)(
            n_estimators=100, min_samples_leaf=3, max_features=1.0, oob_score=True, random_state=seed
        )
        forest.fit(z_nd, factors[name] if continuous else factors[name].astype(str))
        importance_df[:, column] = forest.feature_importances_
        scores.append(forest.oob_score_)
    total = importance_df.sum()
    return {
        "latent/dci_disentanglement": float(
            _concentration(importance_df) @ importance_df.sum(axis=1) / total
        ),
        "latent/dci_completeness": float(_concentration(importance_df.T).mean()),
        "latent/dci_informativeness": float(np.mean(scores)),
    }


def _concentration(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute 1 minus the normalized entropy of each row: 1 if one entry has all weight, 0 if all are equal."""
    rows, columns = weights.shape
    if columns == 1:
        return np.ones(rows)
    total = weights.sum(axis=1, keepdims=True)
    share = np.divide(weights, total, out=np.full_like(weights, 1 / columns), where=total > 0)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    return 1 + (share * logs).sum(axis=1) / np.log(columns)


def _codes(values: pd.Series, bins: int) -> NDArray[np.intp]:
    """Encode values as integers: classes, or quantile bins of floats; -1 if missing."""
    if pd.api.types.is_float_dtype(values) and values.nunique() > bins:
        edges = np.unique(np.nanquantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
        codes = np.searchsorted(edges, values, side="right")
        return np.where(values.isna(), -1, codes)
    return pd.factorize(values)[0]
