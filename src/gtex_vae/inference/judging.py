"""How sure a model is of what it imputes.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

import numpy as np

from gtex_vae.analysis.evaluation.score import Reconstructor
from gtex_vae.errors import ConfigError, RunError
from gtex_vae.inference.calibration import Reference
from gtex_vae.inference.intervals import LEVELS, PredictiveIntervals


def imputed_bounds(
    model: Reconstructor,
    standard_ng: np.ndarray,
    present_g: np.ndarray,
    intervals: PredictiveIntervals,
    level: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (n, g) of the genes that were not measured, standardized; of the others they mean nothing.

    Parameters
    ----------
    model
        Trained model, told of the samples if it is conditional.
    standard_ng
        Standardized expression, shape (n, g).
    present_g
        Genes that were measured.
    intervals
        Of the model.
    level
        One of `gtex_vae.inference.intervals.LEVELS`.
    """
    observed_ng = np.tile(present_g, (len(standard_ng), 1))
    predicted_ng = model.reconstruct(standard_ng, observed_ng)
    return intervals.bounds(standard_ng, predicted_ng, level, observed_ng)


def check_interval(level: float | None, impute: bool, reference: Reference | None, run: str) -> None:
    """Refuse an interval that cannot be given.

    Raises
    ------
    ConfigError, RunError
        The level is none that was calibrated, nothing is imputed, or the run has no reference.
    """
    if level is None:
        return
    if level not in LEVELS:
        raise ConfigError(f"interval={level} must be one of {', '.join(map(str, LEVELS))}")
    if not impute:
        raise ConfigError(f"interval={level} is of imputed genes: add impute=true")
    if reference is None:
        raise RunError(
            f"run={run} has no intervals: `python -m gtex_vae.evaluate run={run}` makes them where there are enough "
            "validation and training samples"
        )
