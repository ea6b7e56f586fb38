"""What log2(TPM+1) needs to be read counts again: the size of each library.

Counts are :math:`k_{ng} = s_n l_g (2^{y_{ng}} - 1)` with the size factor s, what the rates of a sample added up to in
millions, and l what each gene's counts were divided by. So no second matrix is kept.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gtex_vae.errors import DataError

SIZE = "size_factor"  # column of obs
LENGTH = "count_length"  # column of var
MILLION = 1e6


def library_sizes(counts_ng: Any, length_g: np.ndarray | None = None) -> np.ndarray:
    """Size factors (n,) of counts (n, g), dense or sparse: millions of reads, or of reads per base pair.

    >>> library_sizes(np.array([[1e6, 2e6]], dtype=np.float32), np.array([1.0, 2.0])).tolist()
    [2.0]
    """
    weight_g = np.ones(counts_ng.shape[1]) if length_g is None else 1.0 / np.asarray(length_g)
    return np.asarray(counts_ng @ weight_g, dtype=np.float64).ravel() / MILLION


def size_factors(obs: pd.DataFrame) -> np.ndarray:
    """Size factors (n,) of samples, float32.

    Raises
    ------
    DataError
        The data was not made from counts.
    """
    if SIZE not in obs or not (obs[SIZE] > 0).all():
        raise DataError(
            f"model.likelihood=negative_binomial needs read counts: obs has no {SIZE} above 0 for every sample, as "
            "preprocess writes it for matrices of counts that it reads in memory; a file of an earlier version is made "
            "anew by preprocess overwrite=true"
        )
    return obs[SIZE].to_numpy(dtype=np.float32)
