"""Lines that each hold one gene, of whatever text format, to a samples x genes matrix.

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
    """What the lines held.

    Attributes
    ----------
    x_ng
        Values of the genes that were kept.
    gene_ids, gene_names
        Of these genes; names are None where the file has none.
    lead
        Text before the values, a list per kept gene.
    found
        Genes in the file, kept or not.
    first_negative
        Where the first negative value of a kept gene stands, if any.
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
        Those after the header.
    parser
        Of one line.
    n_samples
        Values in a line.
    id_at, name_at
        Which of the leading text fields hold the gene's id and symbol.
    keep_gene
        Called with id and symbol of each gene.
    scratch
        Folder to put the values down in, rather than in memory.

    Raises
    ------
    DataError
        A gene without an id, or anything wrong with the values of a kept gene.
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
