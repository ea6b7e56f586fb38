"""CSV, TSV and similar text in either orientation: UCSC Xena, BED pseudobulk, featureCounts, exports of R and pandas.

Shapes: n samples, g genes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from gtex_vae.data.genes.ids import parse_ensembl
from gtex_vae.data.readers.column_names import choose_quantification, sample_of, spelling
from gtex_vae.data.readers.matrix import RawMatrix, Source, check_sample_ids
from gtex_vae.data.readers.orientation import find_orientation
from gtex_vae.data.readers.registry import ReadOptions
from gtex_vae.data.readers.text.gene_rows import read_gene_rows
from gtex_vae.data.readers.text.layout import GENE_NAME, Layout, find_layout
from gtex_vae.data.readers.text.rows import Line, iterate_lines
from gtex_vae.data.readers.text.spill import Spilled, samples_in_rows
from gtex_vae.data.readers.text.stream import LineBlocks
from gtex_vae.errors import DataError

log = logging.getLogger(__name__)

_PEEKED = 25
_EXAMINED = 200
_TRANSCRIPT = re.compile(r"ENS[A-Z]{0,6}T\d{11}")
# logarithms of expression are below this
_LOWEST_LINEAR_MAXIMUM = 30.0


@dataclass(frozen=True)
class _Values:
    """Content of the rows; ``lead`` has the text fields of the rows that were kept."""

    x_ng: np.ndarray | Spilled
    sample_ids: list[str]
    gene_ids: list[str]
    gene_names: list[str] | None
    lead: list[list[str]]
    found_shape: tuple[int, int]
    first_negative: str | None


def read(path: Path, options: ReadOptions) -> RawMatrix:
    """Read a delimited text matrix.

    The first line names the columns. Text columns before the values, and known annotation columns such as those of
    BED, become ``var`` or ``obs``. Lines that begin with ``##`` or ``# `` before the header are comments.

    Parameters
    ----------
    path
        The file.
    options
        ``keep_gene``, ``orientation`` and ``scratch`` apply.

    Returns
    -------
    RawMatrix
        Its unit is not set.

    Raises
    ------
    DataError
        Something is wrong with the text; names line and column.
    """
    with LineBlocks(path, options.compression) as stream:
        layout, rows = find_layout(path, stream.peek(_PEEKED))
        found_orientation = find_orientation(
            path,
            [row[layout.id_at] for row in rows],
            layout.value_names,
            layout.header[layout.id_at],
            options.orientation,
        )
        lines = islice(iterate_lines(stream), layout.number, None)
        if found_orientation == "genes_in_rows":
            values = _read_genes(layout, lines, options)
        else:
            values = _read_samples(layout, lines, options)

    if found_orientation == "genes_in_rows" and _are_transcripts(values.lead):
        values = _sum_transcripts(path, values)
    table = None
    if layout.n_lead > 1:
        import pandas as pd

        names = [(at, name) for at, name in enumerate(layout.header[: layout.n_lead]) if at != layout.id_at]
        index = pd.Index(values.gene_ids if found_orientation == "genes_in_rows" else values.sample_ids)
        table = pd.DataFrame({name: [row[at] for row in values.lead] for at, name in names}, index=index)
    return RawMatrix(
        x_ng=values.x_ng,
        sample_ids=values.sample_ids,
        gene_ids=values.gene_ids,
        gene_names=values.gene_names,
        source=Source(
            path=path,
            format="delimited",
            orientation=found_orientation,
            found_shape=values.found_shape,
            compression=options.compression,
            sha256=stream.sha256,
        ),
        obs=table if found_orientation == "samples_in_rows" else None,
        var=table if found_orientation == "genes_in_rows" else None,
        first_negative=values.first_negative,
    )


def _read_genes(layout: Layout, lines: Iterator[Line], options: ReadOptions) -> _Values:
    """Read a file whose rows are genes: skip unwanted rows unparsed, transpose the others."""
    samples = layout.value_names
    measure = choose_quantification(samples)
    if measure is not None:
        layout, samples = layout.only(measure), [sample_of(layout.path)]
        log.info("%s is a quantification of one sample: reading its column %s", layout.path, measure)
    check_sample_ids(layout.path, samples, "column")
    names = [spelling(name) for name in layout.header[: layout.n_lead]]
    name_at = next(
        (names.index(name) for name in GENE_NAME if name in names and names.index(name) != layout.id_at),
        None,
    )
    parser = layout.parser("sample", layout.target())
    genes = read_gene_rows(
        layout.path, lines, parser, len(samples),
        id_at=layout.id_at, name_at=name_at, keep_gene=options.keep_gene, scratch=options.scratch,
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


def _read_samples(layout: Layout, lines: Iterator[Line], options: ReadOptions) -> _Values:
    """Read a file whose rows are samples: skip unwanted columns unparsed."""
    for at, gene in enumerate(layout.columns, start=layout.n_lead + 1):
        if not gene:
            raise DataError(f"{layout.path}, line {layout.number}, column {at:,}: the gene id is empty")
    columns = layout.value_names
    wanted = np.array([options.keep_gene is None or options.keep_gene(gene, None) for gene in columns], bool)
    parser = layout.parser("gene", layout.target(wanted))
    collected = samples_in_rows(int(wanted.sum()), options.scratch)
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
    genes = [gene for gene, keep in zip(columns, wanted.tolist(), strict=True) if keep]
    found = (len(columns), len(samples))
    return _Values(collected.result(), samples, genes, None, lead, found, negative)


def _are_transcripts(lead: list[list[str]]) -> bool:
    """Check whether rows with gene ids are transcripts: most have a transcript id in one of their text fields."""
    examined = lead[:_EXAMINED]
    return 2 * sum(any(_TRANSCRIPT.match(field) for field in fields) for fields in examined) > len(examined)


def _sum_transcripts(path: Path, values: _Values) -> _Values:
    """Sum the transcripts of each gene; rows with one transcript per gene are returned as they are.

    Raises
    ------
    DataError
        The values look like logarithms, whose sum has no meaning, or do not fit into memory.
    """
    numbers: dict[str, int] = {}
    genes = [ensembl.gene_id if (ensembl := parse_ensembl(label)) else label for label in values.gene_ids]
    gene_of = np.array([numbers.setdefault(gene, len(numbers)) for gene in genes])
    if len(numbers) == len(gene_of):
        return values
    if not isinstance(values.x_ng, np.ndarray) or values.x_ng.max(initial=0.0) < _LOWEST_LINEAR_MAXIMUM:
        raise DataError(
            f"{path}: the rows are transcripts; sum their counts or TPM to genes first (tximport)"
        )
    log.info("%s: summed %d transcripts to %d genes", path, len(gene_of), len(numbers))
    x_ng = np.zeros((len(values.x_ng), len(numbers)), np.float32)
    for at, gene in enumerate(gene_of):
        x_ng[:, gene] += values.x_ng[:, at]
    first = np.unique(gene_of, return_index=True)[1]
    return replace(
        values,
        x_ng=x_ng,
        gene_ids=list(numbers),
        gene_names=None if values.gene_names is None else [values.gene_names[at] for at in first],
        lead=[values.lead[at] for at in first],
    )
