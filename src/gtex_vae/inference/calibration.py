"""Calibration of a trained model on its validation donors: out-of-distribution scores and predictive intervals.

It is saved with the weights, so that it needs no training data.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.data.rows import RowMatrix
from gtex_vae.errors import ConfigError, RunError
from gtex_vae.files import write_beside
from gtex_vae.inference.intervals import LEVELS, PredictiveIntervals
from gtex_vae.inference.out_of_distribution import FEWEST, SeenSamples
from gtex_vae.inference.predictors import (
    BATCH_SIZE,
    Embedder,
    Reconstructor,
    batches,
    embed_in_batches,
    for_rows,
    reconstruct_in_batches,
    with_covariates,
)

if TYPE_CHECKING:
    from gtex_vae.inference.trained_model import TrainedModel

Splits = Mapping[str, tuple[NDArray[np.float32], pd.DataFrame]]

log = logging.getLogger(__name__)

FILE = "reference.safetensors"


@dataclass(frozen=True)
class Calibration:
    """Result of `Calibration.fit`.

    Attributes
    ----------
    seen
        For out-of-distribution scores.
    intervals
        Predictive intervals.
    """

    seen: SeenSamples
    intervals: PredictiveIntervals

    @classmethod
    def fit(
        cls,
        model: Embedder,
        x_train_ng: RowMatrix,
        x_valid_ng: NDArray[np.float32],
        donors: Sequence[object] | NDArray | pd.Series,
        *,
        of_train: Embedder | None = None,
    ) -> Calibration | None:
        """Calibrate a model on its training and validation samples.

        Parameters
        ----------
        model
            Trained model; a conditional one with the covariates of the validation samples.
        x_train_ng, x_valid_ng
            Standardized expression, shapes (n, g).
        donors
            Donors of the validation samples.
        of_train
            Conditional model with the covariates of the training samples.

        Returns
        -------
        Calibration or None
            None with fewer than 10 training or validation samples.
        """
        if min(len(x_train_ng), len(x_valid_ng)) < FEWEST:
            log.warning("fewer than %d training or validation samples: no intervals, no verdicts", FEWEST)
            return None
        residual_ng = residuals(model, x_valid_ng)
        z_train_nd = embed_in_batches(of_train or model, x_train_ng)
        z_valid_nd = embed_in_batches(model, x_valid_ng)
        seen = SeenSamples.fit(z_train_nd, z_valid_nd, residual_ng, donors)
        return cls(seen, PredictiveIntervals.fit(model, x_valid_ng, residual_ng, seen.rms_g))

    @classmethod
    def fit_splits(
        cls,
        model: Embedder,
        train: tuple[RowMatrix, pd.DataFrame],
        valid: tuple[NDArray[np.float32], pd.DataFrame],
    ) -> Calibration | None:
        """Calibrate a model on standardized expression and annotations; see `fit`."""
        (x_train_ng, train_obs), (x_valid_ng, valid_obs) = train, valid
        return cls.fit(
            with_covariates(model, valid_obs),
            x_train_ng,
            x_valid_ng,
            valid_obs["donor"],
            of_train=with_covariates(model, train_obs),
        )

    @classmethod
    def load_or_fit(cls, run: Path, model: TrainedModel, splits: Splits) -> Calibration | None:
        """Load the calibration of a run; fit and save it for runs of versions that did not.

        Parameters
        ----------
        run, model
            Finished training run and its model.
        splits
            Standardized expression and annotations of ``train`` and ``val``.
        """
        found = cls.load(run / "model")
        if found is None:
            found = cls.fit_splits(model, splits["train"], splits["val"])
            if found is not None and os.access(run / "model", os.W_OK):
                found.save(run / "model")
        return found

    def score_samples(
        self,
        model: Embedder,
        x_ng: NDArray[np.float32],
        present_g: NDArray[np.bool_] | None = None,
        *,
        batch_size: int = BATCH_SIZE,
    ) -> pd.DataFrame:
        """Compute out-of-distribution scores; see `SeenSamples.score_samples`.

        Parameters
        ----------
        model
            The calibrated model.
        x_ng
            Standardized expression, shape (n, g).
        present_g
            Measured genes. The model predicts the others before it embeds the sample.
        batch_size
            Samples at a time; affects memory, not results.
        """
        tables = []
        for rows, batch_ng in batches(x_ng, batch_size):
            ours = for_rows(model, rows)
            if present_g is None or present_g.all():
                x_hat_ng = np.asarray(ours.reconstruct(batch_ng))
                whole_ng = batch_ng
            else:
                x_hat_ng = np.asarray(ours.reconstruct(batch_ng, np.tile(present_g, (len(batch_ng), 1))))
                whole_ng = np.where(present_g, batch_ng, x_hat_ng)
            z_nd = np.asarray(ours.embed(whole_ng))
            tables.append(self.seen.score_samples(z_nd, batch_ng - x_hat_ng, present_g))
        return pd.concat(tables, ignore_index=True)

    def score_encoded(
        self, z_nd: NDArray[np.float32], x_ng: NDArray[np.float32], x_hat_ng: NDArray[np.float32]
    ) -> pd.DataFrame:
        """Compute the scores of `score_samples` from embeddings (n, d) and reconstructions (n, g)."""
        blocks = [slice(start, start + BATCH_SIZE) for start in range(0, len(x_ng), BATCH_SIZE)]
        tables = [self.seen.score_samples(z_nd[rows], x_ng[rows] - x_hat_ng[rows]) for rows in blocks]
        return pd.concat(tables, ignore_index=True)

    def save(self, folder: Path) -> None:
        """Write ``reference.safetensors`` into the folder of the weights."""
        from safetensors.numpy import save

        arrays = {f"{part}.{name}": np.ascontiguousarray(array)
                  for part, fields in asdict(self).items() for name, array in fields.items()}  # fmt: skip
        with write_beside(folder / FILE) as temporary:
            temporary.write_bytes(save(arrays))

    @classmethod
    def load(cls, folder: Path | str) -> Calibration | None:
        """Read the file of `save`; None if there is none, as in runs of earlier versions.

        Raises
        ------
        RunError
            The file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = Path(folder) / FILE
        if not path.is_file():
            return None
        fields: dict[str, dict[str, NDArray]] = {}
        try:
            for key, array in load_file(path).items():
                part, _, name = key.partition(".")
                fields.setdefault(part, {})[name] = array
            return cls(SeenSamples(**fields["seen"]), PredictiveIntervals(**fields["intervals"]))
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise RunError(
                f"{path} cannot be read: {error}; delete it, and `python -m gtex_vae.evaluate "
                f"run={path.parent.parent}` writes a new one"
            ) from error


def residuals(model: Reconstructor, x_ng: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract the reconstruction from standardized expression, shape (n, g)."""
    x_hat_ng = reconstruct_in_batches(model, x_ng)
    return np.subtract(x_ng, x_hat_ng, out=x_hat_ng)


def imputed_bounds(
    model: Reconstructor,
    standard_ng: np.ndarray,
    present_g: np.ndarray,
    intervals: PredictiveIntervals,
    level: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (n, g) of unmeasured genes, standardized; those of measured genes have no meaning.

    Parameters
    ----------
    model
        Trained model; a conditional one with the covariates of the samples.
    standard_ng
        Standardized expression, shape (n, g).
    present_g
        Measured genes.
    intervals
        Calibrated intervals of the model.
    level
        One of `gtex_vae.inference.intervals.LEVELS`.
    """
    observed_ng = np.tile(present_g, (len(standard_ng), 1))
    predicted_ng = model.reconstruct(standard_ng, observed_ng)
    return intervals.bounds(standard_ng, predicted_ng, level, observed_ng)


def check_interval(
    level: float | None, impute: bool | None, calibration: Calibration | None, run: str
) -> None:
    """Refuse an interval that cannot be computed.

    Raises
    ------
    ConfigError, RunError
        The level was not calibrated, nothing is imputed, or the run has no calibration.
    """
    if level is None:
        return
    if level not in LEVELS:
        raise ConfigError(f"interval={level} must be one of {', '.join(map(str, LEVELS))}")
    if not impute:
        raise ConfigError(f"interval={level} is of imputed genes: add impute=true")
    if calibration is None:
        raise RunError(
            f"run={run} has no intervals: `python -m gtex_vae.evaluate run={run}` computes them if there are at least "
            f"{FEWEST} training and {FEWEST} validation samples"
        )
