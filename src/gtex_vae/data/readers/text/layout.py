"""Layout of a delimited text file: its delimiter, header, and the text columns before the values."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gtex_vae.data.genes.ids import parse_ensembl
from gtex_vae.data.readers.column_names import describes_genes, describes_samples
from gtex_vae.data.readers.orientation import are_ensembl
from gtex_vae.data.readers.text.numbers import is_text
from gtex_vae.data.readers.text.rows import RowParser, decode, split_fields
from gtex_vae.errors import DataError

log = logging.getLogger(__name__)

_DELIMITERS = {b"\t": "tab", b",": "comma", b";": "semicolon", b"|": "bar", b" ": "space"}
GENE_NAME = (
    *("gene_name", "gene_symbol", "symbol", "hgnc_symbol", "hugo_symbol", "external_gene_name"),
    *("associated_gene_name", "description", "name", "gene"),
)
_ID = (
    "gene_id",
    "geneid",
    "ensembl_id",
    "ensembl_gene_id",
    "ensembl",
    "phenotype_id",
    "sample_id",
    "sampid",
    "sample",
    "id",
)


@dataclass(frozen=True)
class Layout:
    """Layout of the file, from its first lines.

    Parameters
    ----------
    path
        The file.
    number
        Line of the header, counted from 1.
    delimiter
        One byte.
    header
        Names of all columns.
    n_lead
        Columns before the values.
    id_at
        Position of the ids among them.
    skipped
        Positions, after these, of columns that describe the rows and are left out.
    """

    path: Path
    number: int
    delimiter: bytes
    header: list[str]
    n_lead: int
    id_at: int
    skipped: frozenset[int] = frozenset()

    @property
    def columns(self) -> list[str]:
        """Names of the columns after the text columns."""
        return self.header[self.n_lead :]

    @property
    def value_names(self) -> list[str]:
        """Names of the columns with values."""
        return [name for at, name in enumerate(self.columns) if at not in self.skipped]

    def target(self, wanted: np.ndarray | None = None) -> np.ndarray:
        """Number the columns with values, or the wanted ones of them; -1 for all others, as in `RowParser`."""
        takes = np.array([at not in self.skipped for at in range(len(self.columns))], bool)
        if wanted is not None:
            takes[takes] = wanted
        return np.where(takes, np.cumsum(takes) - 1, -1).astype(np.int32)

    def only(self, name: str) -> Layout:
        """Leave out all columns with values but one."""
        return replace(self, skipped=frozenset(range(len(self.columns))) - {self.columns.index(name)})

    def parser(self, kind: str, target: np.ndarray) -> RowParser:
        """Make a parser of rows; ``kind`` and ``target`` as in `RowParser`."""
        return RowParser(self.path, self.delimiter, self.n_lead, self.columns, kind, target)


def find_layout(path: Path, peeked: list[bytes]) -> tuple[Layout, list[list[str]]]:
    """Find delimiter, header and text columns from the first lines; also return the rows among them."""
    comments = 0
    while comments < len(peeked) and re.match(rb"#(#| |$)", peeked[comments]):
        comments += 1
    number = comments + 1
    lines = [line for line in peeked[number:] if line]
    if comments == len(peeked) or not peeked[comments].strip():
        raise DataError(
            f"{path}, line {number}: the header line is blank; the first line must name the columns"
        )
    if not lines:
        raise DataError(f"{path}: has a header but no rows; fetch it again")
    delimiter = _find_delimiter(path, number, peeked[comments], lines[:5])
    header = split_fields(path, number, peeked[comments], delimiter)
    rows = [split_fields(path, number + 1 + at, line, delimiter) for at, line in enumerate(lines)]
    if all(len(row) == len(header) + 1 for row in rows):
        # R's write.table omits the name of the id column
        header = ["", *header]
    header[0] = header[0].lstrip("#")
    names = [name for name in header[1:] if name]
    if (
        names
        and not any(is_text(name) for name in names)
        and (
            len(set(names)) < len(names)
            or any(not name.isdigit() for name in names)
            or parse_ensembl(header[0]) is not None
        )
    ):
        raise DataError(
            f"{path}, line {number}: has numbers where the column names should be; add a header line"
        )
    rows = [row for row in rows if len(row) == len(header)] or rows
    if len(rows[0]) != len(header):
        raise DataError(
            f"{path}, line {number + 1}: {len(rows[0]):,} fields where the header has {len(header):,}; {_why(rows, header)}"
        )
    n_lead = _count_lead(header, rows)
    if n_lead == len(header):
        raise DataError(
            f"{path}: no numeric columns, so no matrix of expression values; is it an annotation table?"
        )
    if len(rows) > 1 and all(is_text(field) for field in rows[0][n_lead:]):
        raise DataError(
            f"{path}, line {number + 1}: text in every column, like a second header line; keep one header line"
        )
    later = range(n_lead, len(header))
    skipped = [at for at in later if describes_genes(header[at]) or describes_samples(header[at])]
    skipped += [at for at in later if at not in skipped and _is_text_column(rows, at)]
    if len(skipped) == len(later):
        raise DataError(f"{path}: all numeric columns describe genes or samples, so there is no expression")
    if skipped:
        log.info("left out columns that describe the rows: %s", ", ".join(header[at] for at in skipped[:10]))
    id_at = _id_column(header[:n_lead], rows)
    return Layout(
        path, number, delimiter, header, n_lead, id_at, frozenset(at - n_lead for at in skipped)
    ), rows


def _count_lead(header: list[str], rows: list[list[str]]) -> int:
    """Count the columns before the values: ids, text, and columns that describe genes or samples."""
    genes_at = next((at for at, name in enumerate(header) if parse_ensembl(name)), 0)
    if genes_at and are_ensembl(header[genes_at:]):
        return genes_at
    n_lead = 1
    while n_lead < len(header) and (
        describes_genes(header[n_lead]) or describes_samples(header[n_lead]) or _is_text_column(rows, n_lead)
    ):
        n_lead += 1
    return n_lead


def _find_delimiter(path: Path, number: int, header: bytes, lines: list[bytes]) -> bytes:
    """Find the delimiter that splits the header and most rows into the same number of fields."""
    for at, line in enumerate([header, *lines]):
        decode(path, number + at, line)
    best, best_score = b"", (0.0, 0)
    for delimiter in _DELIMITERS:
        if delimiter not in header:
            continue
        try:
            fields = len(split_fields(path, number, header, delimiter))
            counts = [len(split_fields(path, number + 1, line, delimiter)) for line in lines]
        except DataError:
            continue
        if max(counts) < 2:
            continue
        score = (sum(count in (fields, fields + 1) for count in counts) / len(counts), fields)
        if score > best_score:
            best, best_score = delimiter, score
    if best:
        return best
    for delimiter in _DELIMITERS:
        if delimiter in header and b'"' in header:
            split_fields(path, number, header, delimiter)
    raise DataError(
        f"{path}, line {number}: no delimiter ({', '.join(_DELIMITERS.values())}) splits both the header and the rows; "
        "save the file as TSV or CSV with one header line"
    )


def _is_text_column(rows: list[list[str]], at: int) -> bool:
    """Check whether a column has some text and no number."""
    values = [row[at] for row in rows]
    return all(is_text(value) or value.lower() in ("", "na", "nan") for value in values) and any(
        map(is_text, values)
    )


def _id_column(names: list[str], rows: list[list[str]]) -> int:
    """Find the text column of Ensembl ids, else the one with the name of an id, else the first."""
    for at in range(len(names)):
        if are_ensembl([row[at] for row in rows]):
            return at
    lowered = [name.lower() for name in names]
    return next((lowered.index(name) for name in _ID if name in lowered), 0)


def _why(rows: list[list[str]], header: list[str]) -> str:
    """Name the likely cause when all rows have another length than the header."""
    if abs(len(rows[0]) - 1 - 2 * (len(header) - 1)) <= max(1, len(header) // 4):
        return "perhaps decimal commas: write decimal points"
    return "every row must have as many fields as the header"
