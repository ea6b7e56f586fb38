"""What is kept of predictions as they are scored, so that tables and intervals need not predict anew.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gtex_vae.analysis.metrics.coverage import CoverageCount
from gtex_vae.inference.intervals import RATE, PredictiveIntervals


class PredictionCollector:
    """Watches `gtex_vae.analysis.evaluation.score.score_methods`: reconstructions, and how often the model's intervals hold.

    Parameters
    ----------
    shape
        Held-out samples and their genes.
    prefixes
        Methods whose reconstructions are kept.
    intervals
        The model's; None where nothing is to be counted.

    Attributes
    ----------
    x_hat_ng
        Prefix to reconstruction from the whole input, shape (n, g).
    coverage
        Of the intervals, in reconstruction and with `RATE` of the entries hidden.
    """

    def __init__(
        self, shape: tuple[int, int], prefixes: Sequence[str], intervals: PredictiveIntervals | None
    ) -> None:
        self.x_hat_ng = {prefix: np.empty(shape, dtype=np.float32) for prefix in prefixes}
        self.coverage = None if intervals is None else CoverageCount(intervals, *shape)

    def __call__(
        self,
        prefix: str,
        rate: float,
        rows: slice,
        x_ng: NDArray[np.float32],
        x_hat_ng: NDArray[np.float32],
        hidden_ng: NDArray[np.bool_] | None,
    ) -> None:
        """See `gtex_vae.analysis.evaluation.score.OnPrediction`."""
        if hidden_ng is None and prefix in self.x_hat_ng:
            self.x_hat_ng[prefix][rows] = x_hat_ng
        if prefix == "" and self.coverage is not None and rate in (0.0, RATE):
            self.coverage.add(rows, x_ng, x_hat_ng, hidden_ng)
