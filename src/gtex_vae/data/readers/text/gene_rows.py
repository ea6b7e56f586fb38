"""Lines of one gene each, of any text format, read into a samples x genes matrix.

Shapes: n samples, g genes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gtex_vae.data.readers.matrix import KeepGene
from gtex_vae.data.readers.text.rows import Line, RowParser
from gtex_vae.data.readers.text.spill import Spilled, genes_in_rows
from gtex_vae.errors import DataError


@dataclass(frozen=True)
class GeneRows:
    """Content of the lines.

    Attributes
    ----------
    x_ng
        Values of the kept genes.
    gene_ids, gene_names
        Of the kept genes; names are None where the file has none.
    lead
        Text fields before the values, one list per kept gene.
    found
        Number of genes in the file, kept or not.
    first_negative
        Place of the first negative value of a kept gene, or None.
    """

    x_ng: np.ndarray | Spilled
    gene_ids: list[str]
    gene_names: list[str] | None
    lead: list[list[str]]
    found: int
    first_negative: str | None


def read_gene_rows(
    path: Path,
    lines: Iterable[Line],
    parser: RowParser,
    n_samples: int,
    *,
    id_at: int,
    name_at: int | None,
    keep_gene: KeepGene | None,
    scratch: Path | None,
) -> GeneRows:
    """Skip unwanted genes unparsed, parse and transpose the others.

    Parameters
    ----------
    path
        The file, for messages.
    lines
        Lines after the header.
    parser
        Parser of one line.
    n_samples
        Values in a line.
    id_at, name_at
        Positions of the gene's id and symbol among the text fields.
    keep_gene
        Called with id and symbol of each gene.
    scratch
        Folder for the values; None keeps them in memory.

    Raises
    ------
    DataError
        A gene has no id, or a value of a kept gene is wrong.
    """
    collected = genes_in_rows(n_samples, scratch)
    lead: list[list[str]] = []
    found, first_negative = 0, None
    for line in lines:
        fields, position = parser.lead(line)
        found += 1
        gene = fields[id_at]
        if not gene:
            raise DataError(
                f"{path}, line {line.number:,}, column {id_at + 1}: the gene id is empty; name the gene or remove the line"
            )
        if keep_gene is not None and not keep_gene(gene, None if name_at is None else fields[name_at]):
            continue
        place = parser.values(line, position, collected.next_row())
        first_negative = first_negative or place
        collected.commit()
        lead.append(fields)
    return GeneRows(
        collected.result(),
        [fields[id_at] for fields in lead],
        None if name_at is None else [fields[name_at] for fields in lead],
        lead,
        found,
        first_negative,
    )
