"""Ensembl gene ids of any release and species."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import NamedTuple

log = logging.getLogger(__name__)

# GENCODE up to release 24 wrote ENSGR0000182378 for the Y copy of ENSG00000182378;
# the suffix _4 of ENSG00000223972.5_4 is the version of a mapping back to GRCh37
_ENSEMBL = re.compile(r"(ENS[A-Z]{0,6}G)(R?)(\d{10,11})(?:\.\d+)?(?:_\d+)?(_PAR_Y)?")
# the same inside of gene:ENSG..., TSPAN6 (ENSG...), ENSG..._TSPAN6, ENST...|ENSG...|...
_INSIDE = re.compile(rf"(?:^|[|:;,\s(\[_]){_ENSEMBL.pattern}(?=$|[|:;,\s)\]_])")
# TSPAN6 (7105), TSPAN6|7105, TSPAN6|ENSG...
_WITH_ID = re.compile(r"([^\s|(]+)(?:\s*\((?:\d+|ENS\w+[.\d]*)\)|\|.*)")
_NO_SYMBOL = {"", "NA", "N/A", "#N/A", "NAN", "NONE", "NULL", "-", "--", "---", ".", "?"}
_OTHER_IDS = {
    "transcripts": r"ENS[A-Z]{0,6}T\d{11}|[NX][MR]_\d+",
    "exons": r"ENS[A-Z]{0,6}E\d{11}",
    "proteins": r"ENS[A-Z]{0,6}P\d{11}",
    "genes of another species": r"ENS[A-Z]{3,6}G\d{11}|FBgn\d+|WBGene\d+",
    "Entrez gene ids": r"\d+",
    "probe sets of a microarray": r"\d+(_[a-z])*_at|ILMN_\d+|A_\d+_P\d+|\d{7}|AFFX.*",
    "methylation probes": r"c[gh]\.?\d{6,}",
    "positions in the genome": r"(chr)?[\dXYM]+[:_]\d+.*",
}
# Rab4b: symbols of mouse and rat; human symbols have small letters only in names like C1orf112
_RODENT = re.compile(r"(?!.*orf)[A-Z][a-z0-9-]*[a-z][a-z0-9-]*")


class EnsemblId(NamedTuple):
    """An Ensembl gene id without version; ``par_y`` marks a label of the copy on the Y chromosome."""

    gene_id: str
    par_y: bool


def parse_ensembl(label: str) -> EnsemblId | None:
    """Parse the Ensembl gene id in a label of any release.

    Parameters
    ----------
    label
        Label of a row, with or without version, ``_PAR_Y`` or ``ENSGR``; may be joined to other names, as in
        ``ENSG...|TSPAN6``, ``TSPAN6 (ENSG...)``, ``ENSG..._TSPAN6`` or ``gene:ENSG...``.

    Returns
    -------
    EnsemblId or None
        None for a label without an Ensembl gene id.

    Examples
    --------
    >>> parse_ensembl("ENSG00000182378.14_PAR_Y")
    EnsemblId(gene_id='ENSG00000182378', par_y=True)
    >>> parse_ensembl("ENSGR0000182378.12")
    EnsemblId(gene_id='ENSG00000182378', par_y=True)
    >>> parse_ensembl("ENSG00000000003.15|TSPAN6").gene_id
    'ENSG00000000003'
    >>> parse_ensembl("TSPAN6") is None
    True
    """
    found = _ENSEMBL.fullmatch(label.strip()) or (_INSIDE.search(label) if "ENS" in label else None)
    if found is None:
        return None
    prefix, copy, digits, par_y = found.groups()
    if copy and len(digits) == 10:
        return EnsemblId(f"{prefix}0{digits}", True)
    if not copy and len(digits) == 11:
        return EnsemblId(prefix + digits, par_y is not None)
    return None


def warn_of_other_species(labels: Sequence[str], total: int) -> None:
    """Warn if most of the genes that were found by symbol have labels of another species."""
    ids = [parse_ensembl(label) for label in labels]
    foreign = [
        label
        for label, ensembl in zip(labels, ids, strict=True)
        if (_RODENT.fullmatch(label) if ensembl is None else not ensembl.gene_id.startswith("ENSG"))
    ]
    if len(foreign) > total / 2:
        log.warning(
            "%d of %d genes have names of another species (%s...); the human genes of the same symbols are used",
            len(foreign), total, ", ".join(foreign[:3]),
        )  # fmt: skip


def plain_symbol(label: str) -> str:
    """Return the symbol in a label, or an empty string if it has none.

    >>> plain_symbol("TSPAN6 (7105)"), plain_symbol("TSPAN6|7105"), plain_symbol(" TP53"), plain_symbol("NA")
    ('TSPAN6', 'TSPAN6', 'TP53', '')
    """
    symbol = label.strip()
    if found := _WITH_ID.fullmatch(symbol):
        symbol = found[1]
    return "" if symbol.upper() in _NO_SYMBOL or symbol.isdigit() else symbol


def describe_ids(labels: Sequence[str]) -> str:
    """Describe unknown ids by their kind, if it is known, and two examples.

    >>> describe_ids(["7105", "64102"]), describe_ids(["a1", "b2"])
    ("Entrez gene ids ('7105', '64102')", "'a1', 'b2'")
    """
    examples = ", ".join(repr(label[:30]) for label in labels[:2])
    for kind, pattern in _OTHER_IDS.items():
        known = re.compile(rf"(?:{pattern})(?:\.\d+)?")
        if labels and sum(known.fullmatch(label) is not None for label in labels) > len(labels) / 2:
            return f"{kind} ({examples})"
    return examples
