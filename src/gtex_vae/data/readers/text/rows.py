"""Lines of text parsed into the float32 matrix, in either orientation, with one copy in memory.

Shapes: n samples, g genes.
"""

from __future__ import annotations

import itertools
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gtex_vae.data.readers.text.numbers import parse_number, parse_values
from gtex_vae.data.readers.text.stream import LineBlocks
from gtex_vae.errors import DataError

# 32 rows of genes fit into the cache until they are transposed; 1,024 columns fill whole pages of the result
GENES_PER_TILE = 32
_GENES_PER_PANEL = 1024
_SAMPLE_GROUPS = 8


class Line(NamedTuple):
    """One line inside a block: its 1-based number and its bytes ``block[start:stop]``."""

    number: int
    block: bytearray
    start: int
    stop: int


def iterate_lines(stream: LineBlocks) -> Iterator[Line]:
    """Yield every line of a file without its end; blank lines are allowed only at the end.

    Raises
    ------
    DataError
        A blank line is followed by data.
    """
    number = 0
    blank = 0
    for block, length in stream:
        start = 0
        while start < length:
            end = block.find(b"\n", start)
            stop = end - 1 if end > start and block[end - 1] == 13 else end
            number += 1
            if stop == start:
                blank = blank or number
            elif blank:
                raise DataError(
                    f"{stream.path}, line {blank:,}: blank, but data follow; remove the line or fetch the file again"
                )
            else:
                yield Line(number, block, start, stop)
            start = end + 1


def decode(path: Path, number: int, text: bytes | bytearray) -> str:
    """Decode one line or field as UTF-8."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {number:,}: byte {error.start + 1:,} is not UTF-8 text; "
            "save the file as UTF-8 (`iconv -f LATIN1 -t UTF-8`)"
        ) from error


def split_fields(path: Path, number: int, text: bytes | bytearray, delimiter: bytes) -> list[str]:
    """Split one line into text fields; quotes around a field protect delimiters inside."""
    line = decode(path, number, text)
    if '"' not in line:
        return [field.strip() for field in line.split(delimiter.decode())]
    import csv

    try:
        return [
            field.strip() for field in next(csv.reader([line], delimiter=delimiter.decode(), strict=True))
        ]
    except csv.Error as error:
        raise DataError(
            f"{path}, line {number:,}: broken quotes ({error}); close every quote on its line"
        ) from error


@dataclass(frozen=True)
class RowParser:
    """Parser of rows that start with text fields, followed by numbers.

    Parameters
    ----------
    path
        The file, for messages.
    delimiter
        One byte.
    n_lead
        Number of text fields at the start of each row.
    columns
        Names of the numeric columns, for messages.
    kind
        Kind of column, ``sample`` or ``gene``, for messages.
    target
        int32, shape (columns,): place of each value in the output, -1 to skip it.
    """

    path: Path
    delimiter: bytes
    n_lead: int
    columns: list[str]
    kind: str
    target: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "_odd", np.empty((len(self.columns), 3), np.int64))

    def lead(self, line: Line) -> tuple[list[str], int]:
        """Return the text fields of a row and the position of its first number."""
        fields: list[str] = []
        position = line.start
        for _ in range(self.n_lead):
            if position > line.stop:
                raise self._ragged(line, len(fields))
            if line.block[position : position + 1] == b'"':
                close = line.block.find(b'"', position + 1, line.stop)
                while close >= 0 and line.block[close + 1] == 34:
                    close = line.block.find(b'"', close + 2, line.stop)
                end = close + 1 if close >= 0 and line.block[close + 1] == self.delimiter[0] else -1
                text = line.block[position + 1 : close].replace(b'""', b'"')
            else:
                end = line.block.find(self.delimiter, position, line.stop)
                text = line.block[position : end if end >= 0 else line.stop]
            if end < 0:
                raise self._ragged(line, len(fields) + 1)
            fields.append(decode(self.path, line.number, text).strip())
            position = end + 1
        return fields, position

    def values(self, line: Line, position: int, out: np.ndarray) -> str | None:
        """Parse the numbers of a row into ``out``.

        Returns
        -------
        str or None
            Place of the first negative value.

        Raises
        ------
        DataError
            The row is ragged, or a token is no finite number; names line and column.
        """
        text = np.frombuffer(line.block, np.uint8)
        odd: np.ndarray = self._odd  # type: ignore[attr-defined]
        found, n_odd, negative = parse_values(
            text, position, line.stop, self.delimiter[0], self.target, out, odd
        )
        if found != len(self.columns):
            raise self._ragged(line, self.n_lead + found)
        for column, start, stop in odd[:n_odd].tolist():
            try:
                value = parse_number(line.block[start:stop])
            except ValueError as error:
                raise DataError(f"{self.path}, {self.place(line.number, column)}: {error}") from None
            out[self.target[column]] = value
            if value < 0 and (negative < 0 or column < negative):
                negative = column
        return self.place(line.number, negative) if negative >= 0 else None

    def place(self, number: int, column: int) -> str:
        """Line, column and name of a value."""
        return f"line {number:,}, column {self.n_lead + column + 1:,} ({self.kind} {self.columns[column]!r})"

    def _ragged(self, line: Line, found: int) -> DataError:
        """Make the error for a row of the wrong length."""
        expected = self.n_lead + len(self.columns)
        numbers = 2 * len(self.columns)
        why = (
            "the line was cut short or a value is missing"
            if found < expected
            else "one value too many, or two lines joined"
        )
        if self.delimiter == b"," and abs(found - self.n_lead - numbers) <= max(1, numbers // 4):
            why = "perhaps decimal commas: write decimal points"
        if re.search(rb'"\d{1,3}(,\d{3})+"', line.block[line.start : line.stop]):
            why = 'thousands separators ("1,386"): write 1386'
        return DataError(
            f"{self.path}, line {line.number:,}: {found:,} fields where the header has {expected:,}; {why}"
        )


class GenesInRows:
    """Collector of rows of genes as a samples x genes matrix.

    Rows are transposed in tiles into panels of some samples x 1,024 genes. The result is assembled group of samples by
    group of samples, and each panel is freed once copied: peak memory is the result and an eighth of it.

    Parameters
    ----------
    n_samples
        Values per row.
    """

    def __init__(self, n_samples: int) -> None:
        self._tile_gn = np.empty((GENES_PER_TILE, n_samples), np.float32)
        edges = np.linspace(0, n_samples, min(_SAMPLE_GROUPS, n_samples) + 1).astype(int).tolist()
        self._groups = [slice(*pair) for pair in itertools.pairwise(edges)]
        self._panels: list[list[np.ndarray]] = [[] for _ in self._groups]
        self._rows = 0

    def next_row(self) -> np.ndarray:
        """Return the row to parse into; it counts only after :meth:`commit`."""
        return self._tile_gn[self._rows % GENES_PER_TILE]

    def commit(self) -> None:
        """Count the parsed row."""
        self._rows += 1
        if self._rows % GENES_PER_TILE == 0:
            self._flush(self._rows - GENES_PER_TILE, GENES_PER_TILE)

    def _flush(self, first: int, genes: int) -> None:
        """Transpose the tile into its panels."""
        within = first % _GENES_PER_PANEL
        for group, panels in zip(self._groups, self._panels, strict=True):
            if within == 0:
                panels.append(_pages(group.stop - group.start, _GENES_PER_PANEL))
            panels[-1][:, within : within + genes] = self._tile_gn[:genes, group].T

    def result(self) -> np.ndarray:
        """Assemble the panels, shape (n, g), float32."""
        left = self._rows % GENES_PER_TILE
        if left:
            self._flush(self._rows - left, left)
        x_ng = np.empty((self._tile_gn.shape[1], self._rows), np.float32)
        for group in self._groups:
            first = 0
            for panel in self._panels.pop(0):
                width = min(_GENES_PER_PANEL, self._rows - first)
                x_ng[group, first : first + width] = panel[:, :width]
                first += width
        return x_ng


def _pages(rows: int, columns: int) -> np.ndarray:
    """Allocate a float32 array in its own mapping, which unlike the heap is freed with the array."""
    mapping = mmap.mmap(-1, 4 * rows * columns, flags=mmap.MAP_PRIVATE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # as numpy does for its own large arrays: fewer page faults
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapping, np.float32).reshape(rows, columns)


class SamplesInRows:
    """Collector of rows of samples in one array that grows in place.

    Parameters
    ----------
    n_genes
        Values per row.
    """

    def __init__(self, n_genes: int) -> None:
        self._x_ng = np.empty((64, n_genes), np.float32)
        self._rows = 0

    def next_row(self) -> np.ndarray:
        """Return the row to parse into; it counts only after :meth:`commit`."""
        if self._rows == self._x_ng.shape[0]:
            # untouched pages take no memory, and the kernel moves the others without a copy
            self._x_ng.resize((2 * self._rows, self._x_ng.shape[1]), refcheck=False)
        return self._x_ng[self._rows]

    def commit(self) -> None:
        """Count the parsed row."""
        self._rows += 1

    def result(self) -> np.ndarray:
        """Return the counted rows, shape (n, g), float32."""
        self._x_ng.resize((self._rows, self._x_ng.shape[1]), refcheck=False)
        return self._x_ng
