"""Which axis holds the genes, told from the ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from gtex_vae.data.genes.table import bundled_genes, parse_ensembl
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
_LOOKED_AT = 2000
# of the symbols in use ten years ago, more than four in five are still known as symbols today
_SYMBOLS = 0.3


def are_ensembl(ids: Sequence[str]) -> bool:
    """Whether at least half of the ids are Ensembl genes.

    >>> are_ensembl(["ENSG00000223972.5", "ENSG00000227232"]), are_ensembl(["GTEX-1117F-0226-SM-5GZZ7"])
    (True, False)
    """
    ids = ids[:_LOOKED_AT]
    return 2 * sum(parse_ensembl(name) is not None for name in ids) >= max(len(ids), 1)


def share_of_symbols(ids: Sequence[str]) -> float:
    """Share of the ids that are human gene symbols, aliases not counted: any short name is one.

    >>> share_of_symbols(["TP53", "ACTB", "S1", "S2"])
    0.5
    """
    ids = ids[:_LOOKED_AT]
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
    """Decide whether genes lie in rows or in columns.

    Parameters
    ----------
    path
        The file, for messages.
    row_ids, column_ids
        Ids of the two axes, or the first part of them.
    corner
        Header of the id column.
    stated
        What the user said; wins unless Ensembl ids prove it wrong.

    Returns
    -------
    str
        ``genes_in_rows`` or ``samples_in_rows``.

    Raises
    ------
    DataError
        The ids do not tell, or contradict what was stated.
    ConfigError
        ``stated`` is neither of the two.
    """
    rows, columns = are_ensembl(row_ids), are_ensembl(column_ids)
    if stated is not None and stated not in get_args(Orientation):
        raise ConfigError(f"orientation={stated!r} is unknown; use one of {', '.join(get_args(Orientation))}")
    if rows and columns:
        raise DataError(f"{path}: both axes hold Ensembl ids, so this is no matrix of samples and genes")
    if rows or columns:
        found: Orientation = "genes_in_rows" if rows else "samples_in_rows"
        if stated not in (None, found):
            raise DataError(
                f"{path}: orientation={stated} was asked for, but the {'rows' if rows else 'columns'} are Ensembl "
                "genes; leave the orientation out, or mend the file"
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
        f"{path}: the ids do not tell which axis holds the genes (rows begin with {_some(row_ids)}; columns with "
        f"{_some(column_ids)}); say orientation=genes_in_rows or orientation=samples_in_rows"
    )


def _some(ids: Sequence[str]) -> str:
    """First ids, for messages."""
    return ", ".join(repr(name[:30]) for name in list(ids)[:2]) or "nothing"
