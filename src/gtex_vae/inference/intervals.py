"""Intervals that a measured value falls into as often as they say, from residuals on validation donors.

Shapes: ``n`` samples, ``g`` genes, ``q`` quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.evaluation.score import Reconstructor, part

LEVELS = (0.5, 0.8, 0.9, 0.95)
KINDS = ("reconstruction", "imputation")
RATE = 0.2  # share of entries that is hidden for the imputation intervals
BATCH = 512

Kind = Literal["reconstruction", "imputation"]
Quantiles = NDArray[np.float32]


@dataclass(frozen=True)
class PredictiveIntervals:
    r"""Split-conformal intervals, gene by gene, as wide as the sample's own fit says.

    .. math:: \hat x_{ng} + \tau_n \, [q_g(\alpha / 2),\; q_g(1 - \alpha / 2)],
        \qquad \tau_n^2 = \frac{1}{|O_n|} \sum_{g \in O_n} (x_{ng} - \hat x_{ng})^2 / s_g^2

    :math:`q_g` are the conformal quantiles of the gene's residuals, divided by :math:`\tau`, over the samples of the
    validation donors; :math:`O_n` are the entries that the model saw. A degraded sample, or one of a tissue that the
    model knows less well, thus gets wider intervals. For imputation, each validation entry was hidden once, in five
    rounds of a fifth.

    Parameters
    ----------
    rms_g
        :math:`s_g`, the root mean square residual of each gene, standardized units.
    reconstruction_qg, imputation_qg
        Lower quantiles of `LEVELS`, then the upper ones.

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
        """Take the quantiles from validation samples.

        Parameters
        ----------
        model
            Predicts all entries from some.
        x_ng
            Standardized expression of the validation samples, shape (n, g).
        residual_ng
            What its reconstruction from the whole input leaves.
        rms_g
            Root mean square of that for each gene.
        seed
            Of the hidden entries.
        """
        from tqdm import tqdm

        n, g = x_ng.shape
        whole_qg = conformal_quantiles(residual_ng / fit_of(residual_ng, rms_g)[:, None])
        scaled_ng = np.empty((n, g), dtype=np.float32)
        rounds = round(1 / RATE)
        round_g = np.arange(g) % rounds
        random = np.random.default_rng(seed)
        with tqdm(total=n, desc="intervals", unit="sample", delay=2, leave=False, disable=None) as progress:
            for start in range(0, n, BATCH):
                rows = slice(start, start + BATCH)
                batch_ng = np.ascontiguousarray(x_ng[rows])
                hidden_in_ng = random.permuted(np.tile(round_g, (len(batch_ng), 1)), axis=1)
                for turn in range(rounds):
                    hidden_ng = hidden_in_ng == turn
                    left_ng = _left(part(model, rows), batch_ng, hidden_ng)
                    tau_n = fit_of(left_ng, rms_g, ~hidden_ng)
                    scaled_ng[rows][hidden_ng] = (left_ng / tau_n[:, None])[hidden_ng]
                progress.update(len(batch_ng))
        return cls(rms_g, whole_qg, conformal_quantiles(scaled_ng))

    def bounds(
        self,
        x_ng: NDArray[np.float32],
        x_hat_ng: NDArray[np.float32],
        level: float,
        observed_ng: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lower and upper bounds of every entry, standardized units.

        Parameters
        ----------
        x_ng, x_hat_ng
            Standardized expression and what the model predicts, shape (n, g).
        level
            One of `LEVELS`.
        observed_ng
            Entries that the model saw: the bounds are then those of imputation, meant for the others. None where it
            saw all.
        """
        quantile_qg = self.reconstruction_qg if observed_ng is None else self.imputation_qg
        tau_n1 = fit_of(x_ng - x_hat_ng, self.rms_g, observed_ng)[:, None]
        place = LEVELS.index(level)
        low_g, high_g = quantile_qg[place], quantile_qg[place + len(LEVELS)]
        return x_hat_ng + tau_n1 * low_g, x_hat_ng + tau_n1 * high_g


@dataclass(frozen=True)
class Coverage:
    """How often held-out entries fell into their intervals.

    Parameters
    ----------
    metrics
        ``reconstruction/coverage_90``, ``imputation/coverage_90``, ...: share of all entries.
    genes
        Columns ``coverage_90``, ``imputation_coverage_90``, ..., a row per gene.
    samples
        The same columns, a row per sample.
    """

    metrics: dict[str, float]
    genes: pd.DataFrame
    samples: pd.DataFrame


class CoverageCount:
    """Counts held-out entries within their intervals, batch after batch: all of them, and some that were hidden.

    Parameters
    ----------
    intervals
        Fitted to the method whose predictions are counted.
    n_samples, n_genes
        Held-out samples in all, and their genes.
    """

    def __init__(self, intervals: PredictiveIntervals, n_samples: int, n_genes: int) -> None:
        levels = len(KINDS) * len(LEVELS)
        self.intervals = intervals
        self._of_genes, self._of_samples = np.zeros((levels, n_genes)), np.zeros((levels, n_samples))
        self._counted_g, self._counted_n = np.zeros((2, n_genes)), np.zeros((2, n_samples))

    def add(
        self,
        rows: slice,
        x_ng: NDArray[np.float32],
        x_hat_ng: NDArray[np.float32],
        hidden_ng: NDArray[np.bool_] | None = None,
    ) -> None:
        """Count a batch.

        Parameters
        ----------
        rows
            Where its samples stand among all.
        x_ng, x_hat_ng
            Standardized expression, and what was predicted for it.
        hidden_ng
            Entries that the prediction did without, which alone are counted then, for imputation; None where it saw all.
        """
        kind = int(hidden_ng is not None)
        asked_ng = np.ones(x_ng.shape, dtype=bool) if hidden_ng is None else hidden_ng
        self._counted_g[kind] += asked_ng.sum(axis=0)
        self._counted_n[kind, rows] = asked_ng.sum(axis=1)
        for place, level in enumerate(LEVELS, kind * len(LEVELS)):
            seen_ng = None if hidden_ng is None else ~hidden_ng
            low_ng, high_ng = self.intervals.bounds(x_ng, x_hat_ng, level, seen_ng)
            within_ng = (low_ng <= x_ng) & (x_ng <= high_ng) & asked_ng
            self._of_genes[place] += within_ng.sum(axis=0)
            self._of_samples[place, rows] = within_ng.sum(axis=1)

    def result(self) -> Coverage:
        """The shares, of all that was counted."""
        names = [
            f"{kind}{round(100 * level)}"
            for kind in ("coverage_", "imputation_coverage_")
            for level in LEVELS
        ]
        keys = [f"{kind}/coverage_{round(100 * level)}" for kind in KINDS for level in LEVELS]
        kinds = np.repeat([0, 1], len(LEVELS))
        total = self._counted_g.sum(axis=1)[kinds]
        with np.errstate(invalid="ignore"):
            return Coverage(
                dict(zip(keys, map(float, self._of_genes.sum(axis=1) / total), strict=True)),
                pd.DataFrame((self._of_genes / self._counted_g[kinds]).T, columns=names),
                pd.DataFrame((self._of_samples / self._counted_n[kinds]).T, columns=names),
            )


def conformal_quantiles(scaled_ng: NDArray[np.floating]) -> Quantiles:
    r"""Finite-sample quantiles of each column: the lower ones of `LEVELS`, then the upper ones, shape (q, g).

    With n values, the interval from the :math:`\lfloor (n + 1) \alpha / 2 \rfloor`-th smallest to the
    :math:`\lceil (n + 1)(1 - \alpha / 2) \rceil`-th holds a further exchangeable value with probability
    :math:`1 - \alpha` at least; with too few values for that, it is their range.

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
    """Root mean square residual over the observed entries in units of each gene's usual one, per sample.

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


def _left(
    model: Reconstructor, x_ng: NDArray[np.float32], hidden_ng: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """What the prediction from the entries that are not hidden leaves of all."""
    masked_ng = np.where(hidden_ng, np.float32(0), x_ng)
    return x_ng - np.asarray(model.reconstruct(masked_ng, ~hidden_ng))
