"""What a run knows of its own errors, kept beside its weights: needed wherever the training data is not.

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

from gtex_vae.analysis.evaluation.score import Embedder, embed_in_batches, part, told
from gtex_vae.data.rows import RowMatrix
from gtex_vae.errors import RunError
from gtex_vae.files import write_beside
from gtex_vae.inference.intervals import PredictiveIntervals
from gtex_vae.inference.out_of_distribution import FEWEST, SeenSamples

if TYPE_CHECKING:
    from gtex_vae.inference.trained_model import TrainedModel

Parts = Mapping[str, tuple[NDArray[np.float32], pd.DataFrame]]

log = logging.getLogger(__name__)

FILE = "reference.safetensors"
BATCH = 512


@dataclass(frozen=True)
class Reference:
    """Result of `Reference.fit`.

    Attributes
    ----------
    seen
        For the out-of-distribution score.
    intervals
        For predictive intervals.
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
    ) -> Reference | None:
        """Measure a model on its training and validation samples.

        Parameters
        ----------
        model
            The trained model.
        x_train_ng, x_valid_ng
            Standardized expression, shapes (n, g).
        donors
            Of the validation samples.
        of_train
            The model as told of the training samples, where it is conditional and was told of the validation samples.

        Returns
        -------
        Reference or None
            None where there are too few samples to tell what is usual.
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
    def of_parts(
        cls,
        model: Embedder,
        train: tuple[RowMatrix, pd.DataFrame],
        valid: tuple[NDArray[np.float32], pd.DataFrame],
    ) -> Reference | None:
        """See `fit`; from standardized expression and annotations."""
        (x_train_ng, train_obs), (x_valid_ng, valid_obs) = train, valid
        return cls.fit(
            told(model, valid_obs),
            x_train_ng,
            x_valid_ng,
            valid_obs["donor"],
            of_train=told(model, train_obs),
        )

    @classmethod
    def of_run(cls, run: Path, model: TrainedModel, parts: Parts) -> Reference | None:
        """That of a run; made now, and kept, where a run of an earlier version has none.

        Parameters
        ----------
        run, model
            A finished training run and its model.
        parts
            Standardized expression and annotations of ``train`` and ``val``.
        """
        found = cls.load(run / "model")
        if found is None:
            found = cls.of_parts(model, parts["train"], parts["val"])
            if found is not None and os.access(run / "model", os.W_OK):
                found.save(run / "model")
        return found

    def judge(
        self, model: Embedder, x_ng: NDArray[np.float32], present_g: NDArray[np.bool_] | None = None
    ) -> pd.DataFrame:
        """Out-of-distribution scores of samples; see `SeenSamples.judge`.

        Parameters
        ----------
        model
            The model that this was fitted to.
        x_ng
            Standardized expression, shape (n, g).
        present_g
            Genes that were measured. The model predicts the others first, so that the embedding is of a whole sample.
        """
        parts = []
        for start in range(0, len(x_ng), BATCH):
            batch_ng = np.ascontiguousarray(x_ng[start : start + BATCH], dtype=np.float32)
            ours = part(model, slice(start, start + BATCH))
            if present_g is None or present_g.all():
                x_hat_ng = np.asarray(ours.reconstruct(batch_ng))
                whole_ng = batch_ng
            else:
                x_hat_ng = np.asarray(ours.reconstruct(batch_ng, np.tile(present_g, (len(batch_ng), 1))))
                whole_ng = np.where(present_g, batch_ng, x_hat_ng)
            z_nd = np.asarray(ours.embed(whole_ng))
            parts.append(self.seen.judge(z_nd, batch_ng - x_hat_ng, present_g))
        return pd.concat(parts, ignore_index=True)

    def judge_encoded(
        self, z_nd: NDArray[np.float32], x_ng: NDArray[np.float32], x_hat_ng: NDArray[np.float32]
    ) -> pd.DataFrame:
        """What `judge` says, of samples whose embeddings (n, d) and reconstructions (n, g) are known already."""
        blocks = [slice(start, start + BATCH) for start in range(0, len(x_ng), BATCH)]
        parts = [self.seen.judge(z_nd[rows], x_ng[rows] - x_hat_ng[rows]) for rows in blocks]
        return pd.concat(parts, ignore_index=True)

    def save(self, folder: Path) -> None:
        """Write ``reference.safetensors`` beside the weights."""
        from safetensors.numpy import save

        named = {f"{part}.{name}": np.ascontiguousarray(array)
                 for part, held in asdict(self).items() for name, array in held.items()}  # fmt: skip
        with write_beside(folder / FILE) as temporary:
            temporary.write_bytes(save(named))

    @classmethod
    def load(cls, folder: Path | str) -> Reference | None:
        """Read what `save` wrote; None where there is none, as in runs of earlier versions.

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
        held: dict[str, dict[str, NDArray]] = {}
        try:
            for key, array in load_file(path).items():
                part, _, name = key.partition(".")
                held.setdefault(part, {})[name] = array
            return cls(SeenSamples(**held["seen"]), PredictiveIntervals(**held["intervals"]))
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise RunError(
                f"{path} cannot be read: {error}; remove it, and evaluate makes it anew"
            ) from error


def residuals(model: Embedder, x_ng: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standardized expression less its reconstruction, shape (n, g), worked out in batches."""
    left_ng = np.empty(x_ng.shape, dtype=np.float32)
    for start in range(0, len(x_ng), BATCH):
        rows = slice(start, start + BATCH)
        batch_ng = np.ascontiguousarray(x_ng[rows], dtype=np.float32)
        left_ng[rows] = batch_ng - np.asarray(part(model, rows).reconstruct(batch_ng))
    return left_ng
