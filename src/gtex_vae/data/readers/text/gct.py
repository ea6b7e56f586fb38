"""GCT 1.2 and 1.3, the format of the GTEx portal: genes in rows, dimensions declared in the header.

References
----------
GenePattern file formats guide, "GCT"; LINCS CMap, "GCT 1.3".
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gtex_vae.data.readers.matrix import RawMatrix, Source, check_sample_ids
from gtex_vae.data.readers.orientation import are_ensembl
from gtex_vae.data.readers.registry import ReadOptions
from gtex_vae.data.readers.text.gene_rows import read_gene_rows
from gtex_vae.data.readers.text.rows import RowParser, decode, iterate_lines, split_fields
from gtex_vae.data.readers.text.stream import LineBlocks
from gtex_vae.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gtex_vae.data.readers.text.rows import Line

_SYMBOL_COLUMNS = ("pr_gene_symbol", "gene_symbol", "gene_name", "symbol", "description")


def read(path: Path, options: ReadOptions) -> RawMatrix:
    """Read a GCT file, with or without the ``id`` column of newer GTEx releases.

    Parameters
    ----------
    path
        The file.
    options
        ``keep_gene``, ``allow_shape_mismatch`` and ``scratch`` apply; ``orientation`` can only be ``genes_in_rows``.

    Returns
    -------
    RawMatrix
        Its unit is not set; GCT 1.3 fills ``obs`` and ``var`` from its metadata.

    Raises
    ------
    DataError
        The file violates the format; names line and column.
    ConfigError
        Another orientation is stated.
    """
    if options.orientation not in (None, "genes_in_rows"):
        raise ConfigError(
            f"orientation={options.orientation!r}: GCT always has genes in rows; leave it out for {path}"
        )
    with LineBlocks(path, options.compression) as stream:
        lines = iterate_lines(stream)
        version = decode(path, 1, _text(next(lines))).strip()
        if version not in ("#1.2", "#1.3"):
            raise DataError(
                f"{path}, line 1: GCT version {version[:40]!r} is unknown; save it as #1.2 or #1.3"
            )
        declared = _dimensions(path, lines, 4 if version == "#1.3" else 2)
        header_line = _expect(path, lines, 3, "the header line")
        header = split_fields(path, header_line.number, _text(header_line), b"\t")
        if len(header) == 1:
            raise DataError(
                f"{path}, line {header_line.number}: the header has no tabs; GCT is tab-separated: "
                "replace the commas or spaces"
            )
        n_lead = 1 + declared[2] if version == "#1.3" else _lead_columns(header, declared[1])
        if n_lead >= len(header):
            raise DataError(
                f"{path}, line {header_line.number}: the header has no sample columns after {header[-1]!r}; add samples"
            )
        samples = header[n_lead:]
        check_sample_ids(path, samples, "column")
        if are_ensembl(samples):
            raise DataError(
                f"{path}, line {header_line.number}: the columns are Ensembl genes, but GCT has samples in columns; "
                "transpose the file, or save it as TSV, which is read either way"
            )
        if len(samples) != declared[1] and not options.allow_shape_mismatch:
            raise _mismatch(path, declared, f"names {len(samples):,} samples in its header line")

        parser = RowParser(path, b"\t", n_lead, samples, "sample", np.arange(len(samples), dtype=np.int32))
        obs_fields = _column_metadata(path, lines, declared[3], parser) if version == "#1.3" else {}

        names = [name.lower() for name in header[:n_lead]]
        id_at, name_at = _id_and_name(names, version)
        genes = read_gene_rows(
            path, lines, parser, len(samples), id_at=id_at, name_at=name_at,
            keep_gene=options.keep_gene, scratch=options.scratch,
        )  # fmt: skip

    if (genes.found, len(samples)) != declared[:2] and not options.allow_shape_mismatch:
        raise _mismatch(path, declared, f"has {genes.found:,} x {len(samples):,}")
    if not genes.found:
        raise DataError(f"{path}: has a header but no genes; fetch it again")
    var = obs = None
    if version == "#1.3":
        import pandas as pd

        var = pd.DataFrame(
            {name: [fields[at] for fields in genes.lead] for at, name in enumerate(header[:n_lead])}
        )
        var = var.drop(columns=header[0]).set_axis(pd.Index(genes.gene_ids, name=header[0]), axis=0)
        obs = pd.DataFrame(obs_fields, index=pd.Index(samples))
    return RawMatrix(
        x_ng=genes.x_ng,
        sample_ids=samples,
        gene_ids=genes.gene_ids,
        gene_names=genes.gene_names,
        source=Source(
            path=path,
            format=f"gct {version[1:]}",
            orientation="genes_in_rows",
            found_shape=(genes.found, len(samples)),
            compression=options.compression,
            sha256=stream.sha256,
            declared_shape=(declared[0], declared[1]),
        ),
        obs=obs,
        var=var,
        first_negative=genes.first_negative,
    )


def _text(line: Line) -> bytearray:
    """Return the bytes of a line."""
    return line.block[line.start : line.stop]


def _expect(path: Path, lines: Iterator[Line], number: int, what: str) -> Line:
    """Return the next line, which must exist."""
    line = next(lines, None)
    if line is None:
        raise DataError(f"{path}: ends before line {number}, {what}; fetch it again")
    return line


def _dimensions(path: Path, lines: Iterator[Line], expected: int) -> tuple[int, ...]:
    """Parse the second line, genes x samples and, in version 1.3, the counts of metadata fields."""
    line = _expect(path, lines, 2, "the dimensions")
    fields = decode(path, 2, _text(line)).split()
    if len(fields) != expected or not all(field.isascii() and field.isdigit() for field in fields):
        raise DataError(
            f"{path}, line 2: expected {expected} whole numbers (the dimensions), found {' '.join(fields)[:60]!r}; "
            "fetch the file again"
        )
    return tuple(int(field) for field in fields)


def _lead_columns(header: list[str], n_samples: int) -> int:
    """Count the text columns of GCT 1.2: Name and Description, in some releases after an ``id``."""
    with_id = header[0].lower() == "id" and len(header) > 2 and header[1].lower() in ("name", "gene_id")
    return 3 if with_id and (header[2].lower() == "description" or len(header) - 3 == n_samples) else 2


def _id_and_name(names: list[str], version: str) -> tuple[int, int | None]:
    """Find the gene id and the symbol among the text columns."""
    if version == "#1.2":
        return len(names) - 2, len(names) - 1
    return 0, next((names.index(name) for name in _SYMBOL_COLUMNS if name in names[1:]), None)


def _column_metadata(
    path: Path, lines: Iterator[Line], count: int, parser: RowParser
) -> dict[str, list[str]]:
    """Read the rows of sample metadata that GCT 1.3 has before the genes."""
    table = {}
    for at in range(count):
        line = _expect(path, lines, 4 + at, "a row of sample metadata")
        fields = split_fields(path, line.number, _text(line), b"\t")
        expected = parser.n_lead + len(parser.columns)
        if len(fields) != expected:
            raise DataError(
                f"{path}, line {line.number:,}: {len(fields):,} fields of sample metadata where the header has "
                f"{expected:,}"
            )
        table[fields[0]] = fields[parser.n_lead :]
    return table


def _mismatch(path: Path, declared: tuple[int, ...], found: str) -> DataError:
    """Make the error for dimensions that do not match."""
    return DataError(
        f"{path}: the GCT header declares {declared[0]:,} genes x {declared[1]:,} samples, but the file {found}; "
        "fetch it again, or set allow_shape_mismatch=true to accept the file as it is"
    )
