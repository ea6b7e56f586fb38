"""Baselines besides PCA: the training mean, tissue means and nearest neighbours.

Shapes: n samples, g genes, m stored profiles. Everything is in units standardized with training statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

PROFILES_AT_A_TIME = 1024

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Mean:
    """Prediction of the training mean, which is 0 in standardized units."""

    def reconstruct(self, x_ng: Float32, observed_ng: NDArray[np.bool_] | None = None) -> Float32:
        """Return zeros of the shape of ``x_ng``."""
        return np.zeros(x_ng.shape, dtype=np.float32)


@dataclass(frozen=True)
class NearestProfiles:
    """Prediction of the mean of the stored profiles that are nearest on the observed entries.

    Parameters
    ----------
    profiles_mg
        Stored profiles, float32, shape (m, g).
    count
        Number of nearest profiles that are averaged.

    References
    ----------
    Troyanskaya et al. (2001), Missing value estimation methods for DNA microarrays, Bioinformatics 17.

    Examples
    --------
    >>> stored = NearestProfiles(np.array([[0.0, 0.0], [4.0, 8.0]], dtype=np.float32), count=1)
    >>> stored.reconstruct(np.array([[3.0, 0.0]], dtype=np.float32), np.array([[True, False]]))
    array([[4., 8.]], dtype=float32)
    """

    profiles_mg: Float32
    count: int

    @classmethod
    def neighbours(cls, x_ng: Float32, count: int = 10) -> NearestProfiles:
        """Impute by nearest neighbours: store the training samples and average the ``count`` nearest."""
        return cls(x_ng, min(count, len(x_ng)))

    @classmethod
    def tissue_means(cls, x_ng: Float32, tissues: Sequence[object] | NDArray | pd.Series) -> NearestProfiles:
        """Store the mean training profile of each tissue and predict the one that fits best.

        The tissue is chosen by the observed entries, not by the annotation, so that samples without a tissue and tissues
        absent from training are scored in the same way.

        Parameters
        ----------
        x_ng
            Training samples, shape (n, g).
        tissues
            Tissues of the training samples. Samples without a tissue are skipped.
        """
        codes_n, names = pd.factorize(np.asarray(tissues, dtype=object))
        means = [x_ng[codes_n == code].mean(axis=0, dtype=np.float64) for code in range(len(names))]
        return cls(np.array(means, dtype=np.float32), 1)

    def reconstruct(self, x_ng: Float32, observed_ng: NDArray[np.bool_] | None = None) -> Float32:
        """Average the nearest profiles, shape (n, g).

        Parameters
        ----------
        x_ng
            Samples, shape (n, g). Values of hidden entries are ignored.
        observed_ng
            False where an entry is hidden. ``None``: all are observed.
        """
        from scipy.sparse import csr_array

        n, m = len(x_ng), len(self.profiles_mg)
        seen_ng = x_ng if observed_ng is None else np.where(observed_ng, x_ng, np.float32(0))
        weight_ng = None if observed_ng is None else observed_ng.astype(np.float32)
        distance_nm = np.empty((n, m), dtype=np.float32)
        for start in range(0, m, PROFILES_AT_A_TIME):
            block_mg = self.profiles_mg[start : start + PROFILES_AT_A_TIME]
            squares_mg = np.square(block_mg)
            # the samples' own squares do not affect the ranking
            length_nm = squares_mg.sum(axis=1) if weight_ng is None else weight_ng @ squares_mg.T
            distance_nm[:, start : start + len(block_mg)] = length_nm - 2 * (seen_ng @ block_mg.T)
        nearest = np.argpartition(distance_nm, self.count - 1, axis=1)[:, : self.count]
        weights = np.full(nearest.size, 1 / self.count, dtype=np.float32)
        chosen_nm = csr_array((weights, nearest.ravel(), np.arange(n + 1) * self.count), shape=(n, m))
        mean_ng: Float32 = chosen_nm @ self.profiles_mg
        return mean_ng
