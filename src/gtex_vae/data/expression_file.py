"""Writer of expression .h5ad files, block by block, for matrices that do not fit into memory.

Shapes: n samples, g genes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gtex_vae.files import write_beside


class ExpressionFile:
    """Open .h5ad file whose X and layers are written by rows, see `write_expression`."""

    def __init__(self, arrays: dict[str, npt.NDArray[np.float32]]) -> None:
        self._arrays = arrays

    def write(self, rows: slice, **blocks: npt.NDArray[np.float32] | None) -> None:
        """Write blocks (n, g): ``X=...`` and each layer by its name."""
        for name, array in self._arrays.items():
            array[rows] = blocks[name]


@contextmanager
def write_expression(
    path: Path,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    *,
    unit: str,
    layers: Sequence[str] = (),
    uns: Mapping[str, Any] | None = None,
) -> Iterator[ExpressionFile]:
    """Write an AnnData of expression by blocks of samples; an error leaves no partial file.

    Parameters
    ----------
    path
        The .h5ad.
    obs, var
        Samples and genes.
    unit
        Unit of X and of the layers.
    layers
        Names of layers in addition to X.
    uns
        Further entries of ``uns``.
    """
    import anndata
    import h5py

    skeleton = anndata.AnnData(obs=obs, var=var, uns={**(uns or {}), "expression": {"unit": unit}})
    with write_beside(path) as temporary:
        skeleton.write_h5ad(temporary)
        with h5py.File(temporary, "r+") as file:
            arrays = {}
            for name in ("X", *layers):
                key = name if name == "X" else f"layers/{name}"
                array = file.create_dataset(key, (len(obs), len(var)), np.float32)
                array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
                arrays[name] = array
            yield ExpressionFile(arrays)
