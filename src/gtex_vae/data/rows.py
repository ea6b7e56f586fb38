"""Matrices read a block of rows at a time, for data that does not fit into memory.

Shapes: n samples, g genes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from anndata import AnnData

Rows = npt.NDArray[np.integer[Any]]


class RowMatrix(Protocol):
    """Matrix that returns blocks of its rows as arrays: an array, or `LazyRows`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Any: ...


class LazyRows:
    """Matrix whose rows are computed on access.

    Parameters
    ----------
    shape
        Rows and columns.
    read
        Function from increasing row numbers to these rows, dense or CSR.

    Examples
    --------
    >>> twice = LazyRows((3, 2), lambda rows: 2 * np.arange(6).reshape(3, 2)[rows])
    >>> twice[1:].tolist()
    [[4, 6], [8, 10]]
    """

    def __init__(self, shape: tuple[int, int], read: Callable[[Rows], Any]) -> None:
        self.shape, self._read = shape, read

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Rows) -> Any:
        """Return rows, dense or CSR."""
        return self._read(np.arange(*rows.indices(self.shape[0])) if isinstance(rows, slice) else rows)


class FilledRows(LazyRows):
    """`LazyRows` that can be written into an existing array, so that all blocks use the same memory.

    Parameters
    ----------
    shape
        Rows and columns.
    fill
        Function that writes rows, by their increasing numbers, into a float32 array.
    """

    def __init__(self, shape: tuple[int, int], fill: Callable[[Rows, npt.NDArray[np.float32]], None]) -> None:
        super().__init__(shape, self._new)
        self.fill = fill

    def _new(self, rows: Rows) -> npt.NDArray[np.float32]:
        out = np.empty((len(rows), self.shape[1]), np.float32)
        self.fill(rows, out)
        return out


def blocks_of(x_ng: RowMatrix, size: int) -> Iterator[tuple[slice, Any]]:
    """Yield blocks of consecutive rows with their slices; a block of `FilledRows` is overwritten by the next one.

    >>> [(rows.start, len(block)) for rows, block in blocks_of(np.zeros((5, 2)), 3)]
    [(0, 3), (3, 2)]
    """
    n = len(x_ng)
    shared = np.empty((min(size, n), x_ng.shape[1]), np.float32) if isinstance(x_ng, FilledRows) else None
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        if shared is not None and isinstance(x_ng, FilledRows):
            block = shared[: rows.stop - start]
            x_ng.fill(np.arange(start, rows.stop), block)
            yield rows, block
        else:
            yield rows, x_ng[rows]


@dataclass(frozen=True)
class StreamedAnnData:
    """AnnData whose X is read by rows.

    Parameters
    ----------
    tables
        Everything but X.
    x_ng
        Samples x genes, sliced by rows.
    """

    tables: AnnData
    x_ng: Any


def rows_of(x_ng: Any, rows: Rows) -> Any:
    """Read increasing rows of an array, CSR matrix, stored dataset or `LazyRows`; consecutive rows as a slice, which is faster."""
    if len(rows) and int(rows[-1]) - int(rows[0]) == len(rows) - 1:
        return x_ng[int(rows[0]) : int(rows[-1]) + 1]
    return x_ng.oindex[rows] if hasattr(x_ng, "oindex") else x_ng[rows]


def take_columns(x_ng: Any, columns: npt.NDArray[np.integer[Any]]) -> Any:
    """Select columns of a matrix that is read by rows; return the matrix itself if all are selected."""
    if len(columns) == x_ng.shape[1]:
        return x_ng
    return LazyRows((x_ng.shape[0], len(columns)), lambda rows: rows_of(x_ng, rows)[:, columns])


def take_rows(x_ng: Any, rows: npt.NDArray[np.integer[Any]]) -> Any:
    """Select rows of a matrix: of an array or sparse matrix now, of any other matrix on access."""
    if len(rows) == x_ng.shape[0]:
        return x_ng
    if isinstance(x_ng, np.ndarray) or hasattr(x_ng, "tocsr"):
        return x_ng[rows]
    return LazyRows((len(rows), x_ng.shape[1]), lambda picked: rows_of(x_ng, rows[picked]))


def stack(matrices: Sequence[Any]) -> Any:
    """Concatenate dense matrices that are read by rows."""
    if len(matrices) == 1:
        return matrices[0]
    edges = np.cumsum([0, *(matrix.shape[0] for matrix in matrices)])

    def read(rows: Rows) -> npt.NDArray[np.float32]:
        parts = np.split(rows, np.searchsorted(rows, edges[1:-1]))
        return np.concatenate(
            [
                np.asarray(rows_of(matrix, part - first), np.float32)
                for matrix, part, first in zip(matrices, parts, edges, strict=False)
                if len(part)
            ]
        )

    return LazyRows((int(edges[-1]), matrices[0].shape[1]), read)
