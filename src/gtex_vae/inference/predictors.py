"""Protocols of methods that predict expression, and prediction in batches.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.data.rows import RowMatrix, blocks_of

if TYPE_CHECKING:
    from gtex_vae.inference.trained_model import ConditionedModel, TrainedModel

BATCH_SIZE = 512
Floats = NDArray[np.float32]


class Reconstructor(Protocol):
    """Method that predicts all entries from some of them."""

    def reconstruct(self, x_ng: Floats, observed_ng: NDArray[np.bool_] | None = None) -> Any:
        """Reconstruct every entry.

        Parameters
        ----------
        x_ng
            Standardized samples, float32, shape (n, g); hidden entries are 0, the training mean.
        observed_ng
            False where an entry is hidden; None if all are observed.

        Returns
        -------
        array-like
            Mean of the reconstruction, shape (n, g): an ndarray or a CPU tensor without gradient.
        """
        ...


@runtime_checkable
class Embedder(Reconstructor, Protocol):
    """Reconstructor that also embeds: a trained model or PCA."""

    def embed(self, x_ng: Floats) -> Any:
        """Posterior mean of standardized samples, shape (n, d)."""
        ...


@runtime_checkable
class Conditional(Protocol):
    """Method that can be given the covariates of its samples: a trained model."""

    def with_covariates(self, obs: pd.DataFrame) -> Any:
        """Return the method for the samples with these annotations."""
        ...

    def for_rows(self, rows: slice) -> Any:
        """Return the method for some of its samples."""
        ...


def with_covariates(method: Any, obs: pd.DataFrame) -> Any:
    """Return a method for the samples with these annotations; methods without covariates are returned as they are."""
    return method.with_covariates(obs) if isinstance(method, Conditional) else method


def for_rows(method: Any, rows: slice) -> Any:
    """Return a method for some of its samples; methods without covariates are returned as they are."""
    return method.for_rows(rows) if isinstance(method, Conditional) else method


def batches(
    x_ng: RowMatrix, batch_size: int = BATCH_SIZE, *, progress: str | None = None
) -> Iterator[tuple[slice, Floats]]:
    """Yield consecutive rows and their values, contiguous float32.

    Parameters
    ----------
    x_ng
        Expression, in memory or read lazily.
    batch_size
        Rows at a time.
    progress
        Title of a progress bar; None for no bar.
    """
    from tqdm import tqdm

    total = -(-len(x_ng) // batch_size)
    bar = tqdm(
        total=total, desc=progress, unit="batch", leave=False, disable=True if progress is None else None
    )
    with bar:
        for rows, block_ng in blocks_of(x_ng, batch_size):
            yield rows, np.ascontiguousarray(block_ng, dtype=np.float32)
            bar.update()


def embed_in_batches(method: Embedder, x_ng: RowMatrix, batch_size: int = BATCH_SIZE) -> Floats:
    """Embed all samples, shape (n, d)."""
    parts = [
        np.asarray(for_rows(method, rows).embed(batch_ng)) for rows, batch_ng in batches(x_ng, batch_size)
    ]
    return np.concatenate(parts).astype(np.float32, copy=False)


def reconstruct_in_batches(method: Reconstructor, x_ng: RowMatrix, batch_size: int = BATCH_SIZE) -> Floats:
    """Reconstruct all samples from all of their entries, shape (n, g)."""
    x_hat_ng = np.empty(x_ng.shape, dtype=np.float32)
    for rows, batch_ng in batches(x_ng, batch_size):
        x_hat_ng[rows] = np.asarray(for_rows(method, rows).reconstruct(batch_ng))
    return x_hat_ng


def posterior_in_batches(
    model: TrainedModel | ConditionedModel, x_ng: RowMatrix, batch_size: int = BATCH_SIZE
) -> tuple[Floats, Floats]:
    """Posterior means and log variances of all samples, each (n, d)."""
    parts = [for_rows(model, rows).posterior(batch_ng) for rows, batch_ng in batches(x_ng, batch_size)]
    means, log_variances = zip(*parts, strict=True)
    return np.concatenate(means), np.concatenate(log_variances)
