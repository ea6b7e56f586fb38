"""Processed AnnData whose matrix stays on disk and is read by rows.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gtex_vae.data.preprocess import processed as processed_data
from gtex_vae.data.readers.stores import explain_damage, open_group, sliceable
from gtex_vae.errors import ConfigError, DataError

if TYPE_CHECKING:
    from anndata import AnnData

GIB = 1 << 30
READ_BYTES = 1 << 20  # reads of this size reach nearly the full speed of disks and file systems
CHECK_VALUES = 1 << 24
SUBSET_SHARE = 8  # an eighth of the memory for a subset of samples read at once


class DiskMatrix:
    """X of a processed AnnData, .h5ad or .zarr, dense or sparse; values are checked when they are read.

    Parameters
    ----------
    path
        The processed file.

    Attributes
    ----------
    adata
        Its tables, without X.
    shape
        Samples and genes.
    rows_per_read
        Consecutive rows that are read together: a chunk of the store if it has chunks, else about 1 MiB.
    contiguous
        Whether the file stores rows dense and uncompressed.

    Raises
    ------
    DataError
        It cannot be read, or `gtex_vae.data.preprocess.processed.check` refuses its tables.
    """

    def __init__(self, path: Path | str) -> None:
        import anndata
        from anndata.io import read_elem

        self.path = path = Path(path)
        if not path.exists():
            raise DataError(f"{path} does not exist")
        self._format = "zarr" if path.suffix == ".zarr" else "h5ad"
        with explain_damage(path, self._format):
            store = open_group(path, self._format)
            if "X" not in store:
                raise DataError(f"{path} has no matrix X")
            tables = {name: read_elem(store[name]) for name in ("obs", "var", "uns") if name in store}
            self._x_ng = sliceable(store["X"])
            self.adata: AnnData = anndata.AnnData(**tables)
        self.shape: tuple[int, int] = (self.adata.n_obs, self.adata.n_vars)
        processed_data.check_tables(self.adata, str(path))
        chunk = getattr(store["X"], "chunks", None)
        self.contiguous = hasattr(store["X"], "dtype") and not chunk
        self.rows_per_read = int(chunk[0]) if chunk else max(1, READ_BYTES // (4 * self.shape[1]))

    @property
    def nbytes(self) -> int:
        """Size of the whole matrix in memory."""
        return 4 * self.shape[0] * self.shape[1]

    def __getitem__(self, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
        """Return rows (n, g) as a new array; ``rows`` must increase."""
        out_ng = np.empty((len(rows), self.shape[1]), np.float32)
        self.read(rows, out_ng)
        return out_ng

    def read(self, rows: npt.NDArray[np.integer[Any]], out_ng: npt.NDArray[np.float32]) -> None:
        """Read rows, which must increase, into an array (n, g).

        Raises
        ------
        DataError
            The file is damaged, or a value is not finite or not on a log scale.
        """
        if not len(rows):
            return
        starts = np.flatnonzero(np.diff(rows // self.rows_per_read, prepend=-1))
        with explain_damage(self.path, self._format):
            for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
                first, last = int(rows[start]), int(rows[stop - 1])
                block = self._x_ng[first : last + 1]
                block = block.toarray() if hasattr(block, "toarray") else block
                taken = out_ng[start:stop]
                np.take(
                    np.asarray(block, np.float32), rows[start:stop] - first, axis=0, out=taken, mode="clip"
                )
                if not (taken.min() > -np.inf and taken.max() <= processed_data.HIGHEST):
                    samples = self.adata.obs_names[rows[start:stop]]
                    processed_data.check_values(taken, samples, self.adata.var_names, str(self.path))

    def check(self, rows: npt.NDArray[np.integer[Any]]) -> None:
        """Check the values of rows, which must increase."""
        step = max(1, CHECK_VALUES // self.shape[1])
        buffer_ng = np.empty((min(step, len(rows)), self.shape[1]), np.float32)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            self.read(part, buffer_ng[: len(part)])


def open_larger_than(path: Path, memory_gib: float | None) -> DiskMatrix | None:
    """Open a processed AnnData that exceeds the memory; return ``None`` if it fits.

    Parameters
    ----------
    path
        The processed file.
    memory_gib
        Memory for the matrix, in GiB; ``None`` for no limit.
    """
    if memory_gib is None:
        return None
    matrix = DiskMatrix(path)
    return matrix if matrix.nbytes > memory_gib * GIB else None


def check_memory(memory_gib: float | None) -> None:
    """Check the limit of memory.

    Raises
    ------
    ConfigError
        It is not positive.
    """
    if memory_gib is not None and not memory_gib > 0.0:
        raise ConfigError(
            f"data.memory_gib={memory_gib} must be positive, or null for the whole matrix in memory"
        )


def subset(rows: npt.NDArray[np.intp], n_genes: int, memory_gib: float) -> npt.NDArray[np.intp]:
    """Return the rows, or a random subset that fits into an eighth of the memory; the same one in every call, in order."""
    most = max(2, int(memory_gib * GIB / SUBSET_SHARE / (4 * n_genes)))
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
