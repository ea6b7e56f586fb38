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
        Label of a row, with or without version, ``_PAR_Y`` or ``ENSGR``; may be joined to other names by ``|``.

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
    for part in label.split("|") if "|" in label else (label,):
        found = _ENSEMBL.fullmatch(part.strip())
        if found is None:
            continue
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
