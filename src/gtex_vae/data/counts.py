"""Size factors: what converts log2(TPM+1) back to read counts.

Counts are :math:`k_{ng} = s_n l_g (2^{y_{ng}} - 1)`, with the size factor s, the sum of a sample's rates in millions,
and l, the length that each gene's counts were divided by. So the counts need not be stored as a second matrix.

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
    """Return size factors (n,) of counts (n, g), dense or sparse: millions of reads, or of reads per base pair.

    >>> library_sizes(np.array([[1e6, 2e6]], dtype=np.float32), np.array([1.0, 2.0])).tolist()
    [2.0]
    """
    weight_g = np.ones(counts_ng.shape[1]) if length_g is None else 1.0 / np.asarray(length_g)
    return np.asarray(counts_ng @ weight_g, dtype=np.float64).ravel() / MILLION


def size_factors(obs: pd.DataFrame) -> np.ndarray:
    """Return the size factors (n,) of samples, float32.

    Raises
    ------
    DataError
        The data was not made from counts.
    """
    if SIZE not in obs or not (obs[SIZE] > 0).all():
        raise DataError(
            f"model.likelihood=negative_binomial requires read counts: obs has no positive {SIZE} for every sample. "
            "Preprocess writes it for a matrix of counts read with data.memory_gib=null; make a file of an earlier "
            "version again with `python -m gtex_vae.preprocess data=... overwrite=true`"
        )
    return obs[SIZE].to_numpy(dtype=np.float32)
