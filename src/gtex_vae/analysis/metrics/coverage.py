"""Coverage of predictive intervals on held-out samples.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.inference.intervals import KINDS, LEVELS, PredictiveIntervals


@dataclass(frozen=True)
class Coverage:
    """Share of held-out entries within their intervals.

    Parameters
    ----------
    metrics
        ``reconstruction/coverage_90``, ``imputation/coverage_90``, ...: over all entries.
    genes
        Columns ``coverage_90``, ``imputation_coverage_90``, ..., a row per gene.
    samples
        The same columns, a row per sample.
    """

    metrics: dict[str, float]
    genes: pd.DataFrame
    samples: pd.DataFrame


class CoverageCount:
    """Counter of held-out entries within their intervals, batch by batch, for reconstruction and imputation.

    Parameters
    ----------
    intervals
        Intervals of the method whose predictions are counted.
    n_samples, n_genes
        Numbers of held-out samples and genes.
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
            Its rows among all samples.
        x_ng, x_hat_ng
            Standardized expression and its prediction.
        hidden_ng
            Hidden entries: only they are counted, for imputation. None if no entry was hidden.
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
        """Compute the shares."""
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
