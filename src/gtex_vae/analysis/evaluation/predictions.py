"""Predictions on held-out samples, collected while they are scored, so that nothing is predicted twice.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gtex_vae.analysis.evaluation.by_gene_and_tissue import SquaredErrors
from gtex_vae.analysis.metrics.coverage import CoverageCount
from gtex_vae.inference.intervals import RATE, PredictiveIntervals


class PredictionCollector:
    """Collector of reconstructions, squared errors and interval coverage; an `OnPrediction` callback.

    Parameters
    ----------
    shape
        Numbers of held-out samples and genes.
    names
        Prefix of each method whose reconstructions and errors are kept, to its name in `SquaredErrors`.
    intervals
        Intervals of the model; None to count no coverage.

    Attributes
    ----------
    x_hat_ng
        Prefix to reconstruction from the whole input, shape (n, g).
    errors
        Squared errors by gene and sample.
    coverage
        Coverage of the intervals, of reconstruction and with `RATE` of the entries hidden.
    """

    def __init__(
        self, shape: tuple[int, int], names: Mapping[str, str], intervals: PredictiveIntervals | None
    ) -> None:
        self.x_hat_ng = {prefix: np.empty(shape, dtype=np.float32) for prefix in names}
        self.errors = SquaredErrors(shape, names)
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
        self.errors(prefix, rate, rows, x_ng, x_hat_ng, hidden_ng)
        if hidden_ng is None and prefix in self.x_hat_ng:
            self.x_hat_ng[prefix][rows] = x_hat_ng
        if prefix == "" and self.coverage is not None and rate in (0.0, RATE):
            self.coverage.add(rows, x_ng, x_hat_ng, hidden_ng)
