"""Which axis holds the genes, told from the ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from gtex_vae.data.readers.matrix import Orientation
from gtex_vae.errors import ConfigError, DataError

ENSEMBL = re.compile(r"ENS[A-Z]{0,4}[GT]\d{11}(\.\d+)?(_PAR_Y)?", re.IGNORECASE)
# families that together make a fifth of all human symbols, so any broad list of symbols shows some
_FAMILY = re.compile(
    r"(RP[LS]\d+[AXYL]?|MRP[LS]\d+|ZNF\d+|SLC\d+A\d+|KRT\d+|TMEM\d+[A-Z]?|MT-\w+|HLA-\w+|LINC\d+|C\d+orf\d+"
    r"|FAM\d+[A-Z]\d?|OR\d+[A-Z]\d+|CD\d+[A-Z]?|CCDC\d+|IL\d+[A-Z]?\w?|CXC[LR]\d+|CC[LR]\d+|COL\d+A\d+|NDUF\w\d+"
    r"|PSM[A-E]\d+|EIF\d\w*|HIST\d\w+|H[1-4]C\d+|TRIM\d+|USP\d+|ANKRD\d+\w?|PCDH\w+|ADAM(TS)?\d+|WNT\d+\w?"
    r"|HOX[A-D]\d+|SOX\d+|FOX[A-Z]\d+|KCN[A-Z]+\d+|GPR\d+|RAB\d+[A-Z]?|ATP\d\w+|ARHGAP\d+|PPP\dR\d+\w?|MIR\d+\w*"
    r"|GAPDH|ACTB|ACTG1|B2M|TP53|MYC|EGFR|PTPRC|ALB|TTN|APOE|BRCA[12]|INS|LYZ|NKG7|MS4A1|XIST|UBC|TUBB|VIM)"
)
_SAMPLE = re.compile(
    r"(GTEX-|K-562|TCGA-|SRR\d|ERR\d|DRR\d|GSM\d|SAMN\d|HG\d{5}|NA\d{5}|donor|sample|patient)", re.I
)
_GENE_CORNER = {
    "gene",
    "genes",
    "gene_id",
    "geneid",
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


def gene_likeness(ids: Sequence[str]) -> float:
    """Say how far a list of ids looks like genes.

    Parameters
    ----------
    ids
        Ids of one axis; a part of them is enough.

    Returns
    -------
    float
        1 for Ensembl ids, between 0 and 1 for symbols, negative for names that look like samples.

    Examples
    --------
    >>> gene_likeness(["ENSG00000223972.5", "ENSG00000227232"])
    1.0
    >>> gene_likeness(["GTEX-1117F-0226-SM-5GZZ7"])
    -1.0
    """
    if not ids:
        return 0.0
    ensembl = sum(ENSEMBL.fullmatch(name) is not None for name in ids)
    if 2 * ensembl >= len(ids):
        return 1.0
    family = sum(_FAMILY.fullmatch(name) is not None for name in ids)
    sample = sum(_SAMPLE.match(name) is not None for name in ids)
    return (ensembl + family - sample) / len(ids)


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
    rows, columns = gene_likeness(row_ids), gene_likeness(column_ids)
    if stated is not None:
        if stated not in get_args(Orientation):
            raise ConfigError(
                f"orientation={stated!r} is unknown; use one of {', '.join(get_args(Orientation))}"
            )
        wrong, right = (rows, columns) if stated == "samples_in_rows" else (columns, rows)
        if wrong == 1 and right < 1:
            raise DataError(
                f"{path}: orientation={stated} was asked for, but the {'rows' if stated[0] == 's' else 'columns'} "
                "are Ensembl genes; leave the orientation out, or mend the file"
            )
        return "genes_in_rows" if stated == "genes_in_rows" else "samples_in_rows"
    if rows == 1 and columns == 1:
        raise DataError(f"{path}: both axes hold Ensembl ids, so this is no matrix of samples and genes")
    # one family name among a hundred symbols is evidence only where the other axis shows none
    if rows > max(columns, 0) * 3 and rows > 0.01:
        return "genes_in_rows"
    if columns > max(rows, 0) * 3 and columns > 0.01:
        return "samples_in_rows"
    if corner.lower() in _GENE_CORNER:
        return "genes_in_rows"
    if corner.lower() in _SAMPLE_CORNER:
        return "samples_in_rows"
    if columns < 0 <= rows:
        return "genes_in_rows"
    if rows < 0 <= columns:
        return "samples_in_rows"
    raise DataError(
        f"{path}: the ids do not tell which axis holds the genes (rows begin with {_some(row_ids)}; columns with "
        f"{_some(column_ids)}); say orientation=genes_in_rows or orientation=samples_in_rows"
    )


def _some(ids: Sequence[str]) -> str:
    """First ids, for messages."""
    return ", ".join(repr(name[:30]) for name in list(ids)[:2]) or "nothing"
