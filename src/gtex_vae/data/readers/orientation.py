"""Recognition of the axis that holds the genes, from the ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from gtex_vae.data.genes.ids import parse_ensembl
from gtex_vae.data.genes.table import bundled_genes
from gtex_vae.data.readers.matrix import Orientation
from gtex_vae.errors import ConfigError, DataError

_SAMPLE = re.compile(
    r"(GTEX-|K-562|TCGA-|[SED]RR\d|GSM\d|SAMN\d|HG\d{5}|NA\d{5}|donor|sample|patient)", re.IGNORECASE
)
_GENE_CORNER = {
    "gene",
    "genes",
    "geneid",
    "gene_id",
    "gene_name",
    "gene_symbol",
    "symbol",
    "ensembl",
    "ensembl_id",
}
_SAMPLE_CORNER = {
    "sample",
    "samples",
    "sample_id",
    "sampid",
    "barcode",
    "donor",
    "donor_id",
    "cell",
    "cell_id",
}
_EXAMINED = 2000
# more than four in five of the symbols in use ten years ago are still known as symbols
_SYMBOLS = 0.3


def are_ensembl(ids: Sequence[str]) -> bool:
    """Check whether at least half of the ids are Ensembl genes.

    >>> are_ensembl(["ENSG00000223972.5", "ENSG00000227232"]), are_ensembl(["GTEX-1117F-0226-SM-5GZZ7"])
    (True, False)
    """
    ids = ids[:_EXAMINED]
    return 2 * sum(parse_ensembl(name) is not None for name in ids) >= max(len(ids), 1)


def share_of_symbols(ids: Sequence[str]) -> float:
    """Share of the ids that are human gene symbols. Aliases do not count, because most short names are one.

    >>> share_of_symbols(["TP53", "ACTB", "S1", "S2"])
    0.5
    """
    ids = ids[:_EXAMINED]
    find = bundled_genes().find
    known = (find(name) for name in ids)
    return sum(gene is not None and gene.kind != "alias" for gene in known) / max(len(ids), 1)


def find_orientation(
    path: Path,
    row_ids: Sequence[str],
    column_ids: Sequence[str],
    corner: str = "",
    stated: str | None = None,
) -> Orientation:
    """Decide whether genes are in rows or in columns.

    Parameters
    ----------
    path
        The file, for messages.
    row_ids, column_ids
        Ids of the two axes, or the first part of them.
    corner
        Header of the id column.
    stated
        Stated by the user; used unless Ensembl ids contradict it.

    Returns
    -------
    str
        ``genes_in_rows`` or ``samples_in_rows``.

    Raises
    ------
    DataError
        The ids do not show it, or contradict what was stated.
    ConfigError
        ``stated`` is neither of the two.
    """
    rows, columns = are_ensembl(row_ids), are_ensembl(column_ids)
    if stated is not None and stated not in get_args(Orientation):
        raise ConfigError(f"orientation={stated!r} is unknown; use one of {', '.join(get_args(Orientation))}")
    if rows and columns:
        raise DataError(f"{path}: both axes have Ensembl ids, so this is not a matrix of samples and genes")
    if rows or columns:
        found: Orientation = "genes_in_rows" if rows else "samples_in_rows"
        if stated not in (None, found):
            raise DataError(
                f"{path}: orientation={stated} was given, but the {'rows' if rows else 'columns'} are Ensembl "
                "genes; leave orientation out, or correct the file"
            )
        return found
    if stated is not None:
        return "genes_in_rows" if stated == "genes_in_rows" else "samples_in_rows"
    row_share, column_share = share_of_symbols(row_ids), share_of_symbols(column_ids)
    if row_share > max(_SYMBOLS, 2 * column_share):
        return "genes_in_rows"
    if column_share > max(_SYMBOLS, 2 * row_share):
        return "samples_in_rows"
    if corner.lower() in _GENE_CORNER:
        return "genes_in_rows"
    if corner.lower() in _SAMPLE_CORNER:
        return "samples_in_rows"
    row_samples, column_samples = (all(map(_SAMPLE.match, ids)) for ids in (row_ids, column_ids))
    if row_samples != column_samples:
        return "genes_in_rows" if column_samples else "samples_in_rows"
    raise DataError(
        f"{path}: the ids do not show which axis holds the genes (rows begin with {_first(row_ids)}; columns with "
        f"{_first(column_ids)}); state orientation=genes_in_rows or orientation=samples_in_rows"
    )


def _first(ids: Sequence[str]) -> str:
    """Quote the first ids, for messages."""
    return ", ".join(repr(name[:30]) for name in list(ids)[:2]) or "nothing"
