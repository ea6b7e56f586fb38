"""CSV, TSV and their kin in either orientation: UCSC Xena, BED pseudobulk, featureCounts, exports of R and pandas.

Shapes: n samples, g genes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from gtex_vae.data.readers.matrix import KeepGene, RawMatrix, Source, check_sample_ids
from gtex_vae.data.readers.orientation import are_ensembl, find_orientation
from gtex_vae.data.readers.text.gene_rows import read_gene_rows
from gtex_vae.data.readers.text.numbers import is_text
from gtex_vae.data.readers.text.rows import Line, RowParser, decode, iterate_lines, split_fields
from gtex_vae.data.readers.text.spill import Spilled, samples_in_rows
from gtex_vae.data.readers.text.stream import LineBlocks
from gtex_vae.errors import DataError

_PEEKED = 25
_DELIMITERS = {b"\t": "tab", b",": "comma", b";": "semicolon", b"|": "bar", b" ": "space"}
# columns that stand between the id and the values; all but the names are numbers that would pass for samples
_ANNOTATION = {
    *(
        "chr",
        "chrom",
        "chromosome",
        "seqname",
        "start",
        "end",
        "stop",
        "strand",
        "length",
        "gene_length",
        "tss",
    ),
    *(
        "phenotype_id",
        "pid",
        "gid",
        "gene_id",
        "geneid",
        "ensembl_id",
        "ensembl",
        "entrez_id",
        "entrezgene",
        "id",
    ),
    *(
        "name",
        "description",
        "gene_name",
        "gene_symbol",
        "symbol",
        "gene",
        "biotype",
        "gene_type",
        "gene_biotype",
    ),
}
_GENE_NAME = ("gene_name", "gene_symbol", "symbol", "description", "name", "gene")
_ID = ("gene_id", "geneid", "ensembl_id", "ensembl", "phenotype_id", "sample_id", "sampid", "sample", "id")


@dataclass(frozen=True)
class _Layout:
    """What the first lines say about the file."""

    path: Path
    number: int
    delimiter: bytes
    header: list[str]
    n_lead: int
    id_at: int

    @property
    def columns(self) -> list[str]:
        return self.header[self.n_lead :]

    def parser(self, kind: str, target: np.ndarray) -> RowParser:
        return RowParser(self.path, self.delimiter, self.n_lead, self.columns, kind, target)


@dataclass(frozen=True)
class _Values:
    """What the rows hold; ``lead`` are the text fields of the rows that were kept."""

    x_ng: np.ndarray | Spilled
    sample_ids: list[str]
    gene_ids: list[str]
    gene_names: list[str] | None
    lead: list[list[str]]
    found_shape: tuple[int, int]
    first_negative: str | None


def read_delimited(
    path: Path,
    compression: str | None,
    *,
    keep_gene: KeepGene | None = None,
    orientation: str | None = None,
    scratch: Path | None = None,
) -> RawMatrix:
    """Read a delimited text matrix.

    The first line names the columns. Text columns before the values, and known annotation columns such as those of
    BED, are carried to ``var`` or ``obs``. Lines that begin with ``##`` or ``# `` before the header are comments.

    Parameters
    ----------
    path
        The file.
    compression
        ``gzip``, ``zstd`` or None.
    keep_gene
        Called with id and symbol (None where the file has none) of each gene; the others are not parsed.
    orientation
        ``genes_in_rows`` or ``samples_in_rows`` where the ids do not tell.
    scratch
        Folder to put the values down in, rather than in memory.

    Returns
    -------
    RawMatrix
        Without a unit.

    Raises
    ------
    DataError
        Anything that is wrong with the text; names line and column.
    """
    with LineBlocks(path, compression) as stream:
        layout, rows = _find_layout(path, stream.peek(_PEEKED))
        found_way = find_orientation(
            path,
            [row[layout.id_at] for row in rows],
            layout.columns,
            layout.header[layout.id_at],
            orientation,
        )
        lines = islice(iterate_lines(stream), layout.number, None)
        if found_way == "genes_in_rows":
            values = _read_genes(layout, lines, keep_gene, scratch)
        else:
            values = _read_samples(layout, lines, keep_gene, scratch)

    table = None
    if layout.n_lead > 1:
        import pandas as pd

        names = [(at, name) for at, name in enumerate(layout.header[: layout.n_lead]) if at != layout.id_at]
        index = pd.Index(values.gene_ids if found_way == "genes_in_rows" else values.sample_ids)
        table = pd.DataFrame({name: [row[at] for row in values.lead] for at, name in names}, index=index)
    return RawMatrix(
        x_ng=values.x_ng,
        sample_ids=values.sample_ids,
        gene_ids=values.gene_ids,
        gene_names=values.gene_names,
        source=Source(
            path=path,
            format="delimited",
            orientation=found_way,
            found_shape=values.found_shape,
            compression=compression,
            sha256=stream.sha256,
        ),
        obs=table if found_way == "samples_in_rows" else None,
        var=table if found_way == "genes_in_rows" else None,
        first_negative=values.first_negative,
    )


def _read_genes(
    layout: _Layout, lines: Iterator[Line], keep_gene: KeepGene | None, scratch: Path | None
) -> _Values:
    """Rows are genes: skip unwanted ones unparsed, transpose the others."""
    samples = layout.columns
    check_sample_ids(layout.path, samples, "column")
    names = [name.lower() for name in layout.header[: layout.n_lead]]
    name_at = next(
        (names.index(name) for name in _GENE_NAME if name in names and names.index(name) != layout.id_at),
        None,
    )
    parser = layout.parser("sample", np.arange(len(samples), dtype=np.int32))
    genes = read_gene_rows(
        layout.path, lines, parser, len(samples),
        id_at=layout.id_at, name_at=name_at, keep_gene=keep_gene, scratch=scratch,
    )  # fmt: skip
    return _Values(
        genes.x_ng,
        samples,
        genes.gene_ids,
        genes.gene_names,
        genes.lead,
        (genes.found, len(samples)),
        genes.first_negative,
    )


def _read_samples(
    layout: _Layout, lines: Iterator[Line], keep_gene: KeepGene | None, scratch: Path | None
) -> _Values:
    """Rows are samples: skip unwanted columns unparsed."""
    for at, gene in enumerate(layout.columns, start=layout.n_lead + 1):
        if not gene:
            raise DataError(f"{layout.path}, line {layout.number}, column {at:,}: the gene id is empty")
    wanted = np.array([keep_gene is None or keep_gene(gene, None) for gene in layout.columns], bool)
    target = np.where(wanted, np.cumsum(wanted) - 1, -1).astype(np.int32)
    parser = layout.parser("gene", target)
    collected = samples_in_rows(int(wanted.sum()), scratch)
    lead: list[list[str]] = []
    negative = None
    for line in lines:
        fields, position = parser.lead(line)
        place = parser.values(line, position, collected.next_row())
        negative = negative or place
        collected.commit()
        lead.append(fields)
    samples = [fields[layout.id_at] for fields in lead]
    check_sample_ids(layout.path, samples, "row")
    genes = [gene for gene, keep in zip(layout.columns, wanted.tolist(), strict=True) if keep]
    found = (len(layout.columns), len(samples))
    return _Values(collected.result(), samples, genes, None, lead, found, negative)


def _find_layout(path: Path, peeked: list[bytes]) -> tuple[_Layout, list[list[str]]]:
    """Find delimiter, header and text columns; also return the rows that were looked at."""
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
        raise DataError(f"{path}: holds a header but no rows; fetch it again")
    delimiter = _find_delimiter(path, number, peeked[comments], lines[:5])
    header = split_fields(path, number, peeked[comments], delimiter)
    rows = [split_fields(path, number + 1 + at, line, delimiter) for at, line in enumerate(lines)]
    if all(len(row) == len(header) + 1 for row in rows):
        # R's write.table leaves out the name of the id column
        header = ["", *header]
    header[0] = header[0].lstrip("#")
    names = [name for name in header[1:] if name]
    if (
        names
        and not any(is_text(name) for name in names)
        and (len(set(names)) < len(names) or any(not name.isdigit() for name in names))
    ):
        raise DataError(
            f"{path}, line {number}: holds numbers where the column names should be; add a header line"
        )
    rows = [row for row in rows if len(row) == len(header)] or rows
    if len(rows[0]) != len(header):
        raise DataError(
            f"{path}, line {number + 1}: {len(rows[0]):,} fields where the header has {len(header):,}; {_why(rows, header)}"
        )
    n_lead = 1
    while n_lead < len(header) and (header[n_lead].lower() in _ANNOTATION or _is_text_column(rows, n_lead)):
        n_lead += 1
    if n_lead == len(header):
        raise DataError(
            f"{path}: no numeric columns, so no matrix of expression values; is it an annotation table?"
        )
    if len(rows) > 1 and all(is_text(field) for field in rows[0][n_lead:]):
        raise DataError(
            f"{path}, line {number + 1}: text in every column, like a second header line; keep one header line"
        )
    return _Layout(path, number, delimiter, header, n_lead, _id_column(header[:n_lead], rows)), rows


def _find_delimiter(path: Path, number: int, header: bytes, lines: list[bytes]) -> bytes:
    """Take the delimiter that divides the header and most rows into equally many fields."""
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
        f"{path}, line {number}: no delimiter ({', '.join(_DELIMITERS.values())}) divides both the header and the rows; "
        "save the file as TSV or CSV with one header line"
    )


def _is_text_column(rows: list[list[str]], at: int) -> bool:
    """No number in this column, and some text."""
    values = [row[at] for row in rows]
    return all(is_text(value) or value.lower() in ("", "na", "nan") for value in values) and any(
        map(is_text, values)
    )


def _id_column(names: list[str], rows: list[list[str]]) -> int:
    """Among the text columns, the one of Ensembl ids, else the one with an id's name, else the first."""
    for at in range(len(names)):
        if are_ensembl([row[at] for row in rows]):
            return at
    lowered = [name.lower() for name in names]
    return next((lowered.index(name) for name in _ID if name in lowered), 0)


def _why(rows: list[list[str]], header: list[str]) -> str:
    """Likely cause of rows that are all of another length than the header."""
    if abs(len(rows[0]) - 1 - 2 * (len(header) - 1)) <= max(1, len(header) // 4):
        return "perhaps decimal commas: write decimal points"
    return "every row must have as many fields as the header"
