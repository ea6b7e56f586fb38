"""Predictive intervals with calibrated coverage, from residuals on validation donors.

Shapes: ``n`` samples, ``g`` genes, ``q`` quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gtex_vae.inference.predictors import Reconstructor, batches, for_rows

LEVELS = (0.5, 0.8, 0.9, 0.95)
KINDS = ("reconstruction", "imputation")
RATE = 0.2  # share of hidden entries for the imputation intervals

Kind = Literal["reconstruction", "imputation"]
Quantiles = NDArray[np.float32]


@dataclass(frozen=True)
class PredictiveIntervals:
    r"""Split-conformal intervals per gene, scaled by the fit of each sample.

    .. math:: \hat x_{ng} + \tau_n \, [q_g(\alpha / 2),\; q_g(1 - \alpha / 2)],
        \qquad \tau_n^2 = \frac{1}{|O_n|} \sum_{g \in O_n} (x_{ng} - \hat x_{ng})^2 / s_g^2

    :math:`q_g` are conformal quantiles of the gene's residuals divided by :math:`\tau`, over the samples of the
    validation donors. :math:`O_n` are the observed entries. Samples that the model fits less well, such as degraded
    ones, therefore get wider intervals. For imputation, each validation entry was hidden once, in five rounds of a
    fifth.

    Parameters
    ----------
    rms_g
        :math:`s_g`, the root mean square residual of each gene, standardized units.
    reconstruction_qg, imputation_qg
        Lower, then upper quantiles of `LEVELS`.

    References
    ----------
    Lei et al. (2018), Distribution-free predictive inference for regression, section 5.2 (locally weighted).
    """

    rms_g: NDArray[np.float64]
    reconstruction_qg: Quantiles
    imputation_qg: Quantiles

    @classmethod
    def fit(
        cls,
        model: Reconstructor,
        x_ng: NDArray[np.float32],
        residual_ng: NDArray[np.float32],
        rms_g: NDArray[np.float64],
        *,
        seed: int = 0,
    ) -> PredictiveIntervals:
        """Fit the quantiles to validation samples.

        Parameters
        ----------
        model
            Predicts all entries from some.
        x_ng
            Standardized expression of the validation samples, shape (n, g).
        residual_ng
            Its residual with the whole input given.
        rms_g
            Root mean square residual of each gene.
        seed
            Seed of the hidden entries.
        """
        n, g = x_ng.shape
        whole_qg = conformal_quantiles(residual_ng / fit_of(residual_ng, rms_g)[:, None])
        scaled_ng = np.empty((n, g), dtype=np.float32)
        rounds = round(1 / RATE)
        round_g = np.arange(g) % rounds
        random = np.random.default_rng(seed)
        for rows, batch_ng in batches(x_ng, progress="intervals"):
            hidden_in_ng = random.permuted(np.tile(round_g, (len(batch_ng), 1)), axis=1)
            for turn in range(rounds):
                hidden_ng = hidden_in_ng == turn
                left_ng = _residual(for_rows(model, rows), batch_ng, hidden_ng)
                tau_n = fit_of(left_ng, rms_g, ~hidden_ng)
                scaled_ng[rows][hidden_ng] = (left_ng / tau_n[:, None])[hidden_ng]
        return cls(rms_g, whole_qg, conformal_quantiles(scaled_ng))

    def bounds(
        self,
        x_ng: NDArray[np.float32],
        x_hat_ng: NDArray[np.float32],
        level: float,
        observed_ng: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute lower and upper bounds of every entry, standardized units.

        Parameters
        ----------
        x_ng, x_hat_ng
            Standardized expression and its prediction, shape (n, g).
        level
            One of `LEVELS`.
        observed_ng
            Entries given to the model: the bounds are those of imputation, for the other entries. None if all were
            given.
        """
        quantile_qg = self.reconstruction_qg if observed_ng is None else self.imputation_qg
        tau_n1 = fit_of(x_ng - x_hat_ng, self.rms_g, observed_ng)[:, None]
        place = LEVELS.index(level)
        low_g, high_g = quantile_qg[place], quantile_qg[place + len(LEVELS)]
        return x_hat_ng + tau_n1 * low_g, x_hat_ng + tau_n1 * high_g


def conformal_quantiles(scaled_ng: NDArray[np.floating]) -> Quantiles:
    r"""Compute finite-sample quantiles of each column: lower, then upper ones of `LEVELS`, shape (q, g).

    With n values, the interval from the :math:`\lfloor (n + 1) \alpha / 2 \rfloor`-th smallest to the
    :math:`\lceil (n + 1)(1 - \alpha / 2) \rceil`-th contains a further exchangeable value with probability at least
    :math:`1 - \alpha`. With too few values, it is their range.

    Examples
    --------
    >>> conformal_quantiles(np.arange(1.0, 20.0)[:, None]).ravel().tolist()
    [5.0, 2.0, 1.0, 1.0, 15.0, 18.0, 19.0, 19.0]
    """
    n = len(scaled_ng)
    tails = np.round((1 - np.array(LEVELS)) / 2 * (n + 1), 9)
    lower = np.clip(np.floor(tails).astype(int) - 1, 0, n - 1)
    upper = n - 1 - lower
    # genes as rows: sorting along contiguous memory
    sorted_gn = np.sort(np.ascontiguousarray(scaled_ng.T, dtype=np.float32), axis=1)
    return np.ascontiguousarray(sorted_gn[:, np.concatenate([lower, upper])].T)


def fit_of(
    residual_ng: NDArray[np.floating],
    rms_g: NDArray[np.float64],
    observed_ng: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Compute the root mean square of each sample's residuals, divided by the gene's own, over observed entries.

    Examples
    --------
    >>> fit_of(np.array([[1.0, 40.0]]), np.array([2.0, 4.0]), np.array([[True, False]])).tolist()
    [0.5]
    """
    scaled_ng = residual_ng / rms_g.astype(np.float32)
    if observed_ng is None:
        mean_n = np.square(scaled_ng).mean(axis=1)
    else:
        mean_n = np.square(np.where(observed_ng, scaled_ng, 0)).sum(axis=1) / np.maximum(
            observed_ng.sum(axis=1), 1
        )
    return np.sqrt(mean_n + 1e-12).astype(np.float32)


def _residual(
    model: Reconstructor, x_ng: NDArray[np.float32], hidden_ng: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Subtract the prediction from the observed entries from all entries."""
    masked_ng = np.where(hidden_ng, np.float32(0), x_ng)
    return x_ng - np.asarray(model.reconstruct(masked_ng, ~hidden_ng))
