"""A matrix that is written to a scratch file while it is read, and sliced from there by rows.

Shapes: n samples, g genes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gtex_vae.data.readers.text.rows import GENES_PER_TILE, GenesInRows, SamplesInRows

PANEL_VALUES = 1 << 26  # a quarter of a GiB is collected before it is written
MOST_GENES = 1024
BUFFERED_ROWS = 64


class Spilled:
    """Float32 matrix in a file that is organised in panels of columns; slices by rows.

    Parameters
    ----------
    path
        The scratch file: panels one after another, each row-major.
    shape
        Rows and columns.
    widths
        Number of columns of each panel.
    """

    def __init__(self, path: Path, shape: tuple[int, int], widths: Sequence[int]) -> None:
        self.path, self.shape, self.widths = path, shape, list(widths)
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115, closed with the object
        assert sum(self.widths) == shape[1]

    def __getitem__(self, rows: slice | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Read rows (n, g) into memory."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(self.shape[0]))
        out_ng = np.empty((len(rows), self.shape[1]), np.float32)
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1).tolist()
        column = 0
        for width in self.widths:
            for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
                first = 4 * (column * self.shape[0] + int(rows[start]) * width)
                part = np.empty((stop - start, width), np.float32)
                _read_exactly(self._file.fileno(), part, first)
                out_ng[start:stop, column : column + width] = part
            column += width
        return out_ng


class SpilledGenes:
    """Collector of rows of genes as a samples x genes matrix on disk; see `gtex_vae.data.readers.text.rows.GenesInRows`.

    Parameters
    ----------
    n_samples
        Values per row.
    scratch
        Folder for the file.
    """

    def __init__(self, n_samples: int, scratch: Path) -> None:
        genes = PANEL_VALUES // max(1, n_samples) // GENES_PER_TILE * GENES_PER_TILE
        self._panel_ng = np.empty((n_samples, min(MOST_GENES, max(GENES_PER_TILE, genes))), np.float32)
        self._tile_gn = np.empty((GENES_PER_TILE, n_samples), np.float32)
        self._path, self._file = _scratch_file(scratch)
        self._widths: list[int] = []
        self._in_panel = self._in_tile = 0

    def next_row(self) -> npt.NDArray[np.float32]:
        """Return the row to parse into; it counts only after :meth:`commit`."""
        return self._tile_gn[self._in_tile]

    def commit(self) -> None:
        """Count the parsed row."""
        self._in_tile += 1
        if self._in_tile == GENES_PER_TILE:
            self._flush_tile()
            if self._in_panel == self._panel_ng.shape[1]:
                self._flush_panel()

    def _flush_tile(self) -> None:
        genes = slice(self._in_panel, self._in_panel + self._in_tile)
        self._panel_ng[:, genes] = self._tile_gn[: self._in_tile].T
        self._in_panel, self._in_tile = genes.stop, 0

    def _flush_panel(self) -> None:
        np.ascontiguousarray(self._panel_ng[:, : self._in_panel]).tofile(self._file)
        self._widths.append(self._in_panel)
        self._in_panel = 0

    def result(self) -> Spilled:
        """Finish the file and return the matrix (n, g)."""
        self._flush_tile()
        if self._in_panel:
            self._flush_panel()
        self._file.close()
        return Spilled(self._path, (self._panel_ng.shape[0], sum(self._widths)), self._widths)


class SpilledSamples:
    """Collector of rows of samples in a file; see `gtex_vae.data.readers.text.rows.SamplesInRows`.

    Parameters
    ----------
    n_genes
        Values per row.
    scratch
        Folder for the file.
    """

    def __init__(self, n_genes: int, scratch: Path) -> None:
        self._block_ng = np.empty((BUFFERED_ROWS, n_genes), np.float32)
        self._path, self._file = _scratch_file(scratch)
        self._rows = self._buffered = 0

    def next_row(self) -> npt.NDArray[np.float32]:
        """Return the row to parse into; it counts only after :meth:`commit`."""
        return self._block_ng[self._buffered]

    def commit(self) -> None:
        """Count the parsed row."""
        self._buffered += 1
        if self._buffered == len(self._block_ng):
            self._flush()

    def write(self, block_ng: npt.NDArray[np.float32]) -> None:
        """Append rows (n, g) after the parsed ones."""
        self._flush()
        np.ascontiguousarray(block_ng, np.float32).tofile(self._file)
        self._rows += len(block_ng)

    def _flush(self) -> None:
        self._block_ng[: self._buffered].tofile(self._file)
        self._rows += self._buffered
        self._buffered = 0

    def result(self) -> Spilled:
        """Finish the file and return the matrix (n, g)."""
        self._flush()
        self._file.close()
        return Spilled(self._path, (self._rows, self._block_ng.shape[1]), [self._block_ng.shape[1]])


def genes_in_rows(n_samples: int, scratch: Path | None) -> GenesInRows | SpilledGenes:
    """Make a collector of genes: in memory, or in a folder if given."""
    return GenesInRows(n_samples) if scratch is None else SpilledGenes(n_samples, scratch)


def samples_in_rows(n_genes: int, scratch: Path | None) -> SamplesInRows | SpilledSamples:
    """Make a collector of samples: in memory, or in a folder if given."""
    return SamplesInRows(n_genes) if scratch is None else SpilledSamples(n_genes, scratch)


def _scratch_file(scratch: Path) -> tuple[Path, Any]:
    handle, name = tempfile.mkstemp(suffix=".float32", dir=scratch)
    return Path(name), os.fdopen(handle, "wb")


def _read_exactly(descriptor: int, out: npt.NDArray[np.float32], position: int) -> None:
    """Fill an array from a position of a file; one system call reads at most 2 GiB."""
    view = memoryview(out.data).cast("B")
    while view:
        got = os.preadv(descriptor, [view], position)
        assert got, "the scratch file is shorter than written"
        view, position = view[got:], position + got
