"""What a gene is called: Ensembl ids, symbols, and the table that joins them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from gtex_vae.errors import DataError

log = logging.getLogger(__name__)

# ENSGR0000182378 is how GENCODE up to release 24 wrote the Y copy of ENSG00000182378;
# the suffix _4 of ENSG00000223972.5_4 counts mappings back to GRCh37
_ENSEMBL = re.compile(r"(ENS[A-Z]{0,6}G)(R?)(\d{10,11})(?:\.\d+)?(?:_\d+)?(_PAR_Y)?")
# Rab4b, as mouse and rat genes are written; human symbols have small letters only in C1orf112 and the like
_RODENT = re.compile(r"(?!.*orf)[A-Z][a-z0-9-]*[a-z][a-z0-9-]*")
CODING = ("protein_coding",)
COLUMNS = ("gene_name", "biotype", "length", "hgnc", "previous", "aliases")


class EnsemblId(NamedTuple):
    """An Ensembl gene id without version, and whether the label named its copy on the Y chromosome."""

    gene_id: str
    par_y: bool


def parse_ensembl(label: str) -> EnsemblId | None:
    """Read an Ensembl gene id from a label of any release.

    Parameters
    ----------
    label
        A label of a row: with or without version, ``_PAR_Y`` or ``ENSGR`` copies, or joined to other names
        by ``|``.

    Returns
    -------
    EnsemblId or None
        None for a label that holds no Ensembl gene id.

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
    """Warn where labels of another species, taken for genes by their symbols, are most of all that were found."""
    ids = [parse_ensembl(label) for label in labels]
    foreign = [
        label
        for label, ensembl in zip(labels, ids, strict=True)
        if (_RODENT.fullmatch(label) if ensembl is None else not ensembl.gene_id.startswith("ENSG"))
    ]
    if len(foreign) > total / 2:
        log.warning(
            "%d of %d genes are named as in another species (%s...) and taken for the human genes of the same symbols",
            len(foreign), total, ", ".join(foreign[:3]),
        )  # fmt: skip


class Named(NamedTuple):
    """The gene that a symbol stands for, and by which kind of name."""

    gene_id: str
    kind: str


@dataclass(frozen=True)
class GeneTable:
    """Genes of one annotation.

    Parameters
    ----------
    frame
        One row per gene, indexed by Ensembl id without version, with text columns ``gene_name``,
        ``biotype``, ``length``, ``hgnc``, ``previous`` and ``aliases``; an empty string is an absent fact,
        and ``|`` separates several names.
    source
        Where the facts come from, for the provenance.
    whole
        The table that this one was selected from: it knows the names of the genes that were not selected.
    """

    frame: pd.DataFrame
    source: str
    whole: GeneTable | None = None

    def __len__(self) -> int:
        return len(self.frame)

    def __contains__(self, gene_id: object) -> bool:
        return gene_id in self.frame.index

    def of_biotype(self, biotypes: Iterable[str] = CODING) -> GeneTable:
        """Keep the genes of some biotypes, protein-coding ones by default."""
        wanted = list(biotypes)
        kept = self.frame[self.frame["biotype"].isin(wanted)]
        if kept.empty:
            known = ", ".join(sorted(set(self.frame["biotype"]) - {""})[:8]) or "none"
            raise DataError(f"{self.source}: no gene of biotype {', '.join(wanted)}; it has {known}")
        return GeneTable(kept, f"{self.source}, {'/'.join(wanted)}", whole=self)

    def of_ids(self, gene_ids: Iterable[str], source: str) -> GeneTable:
        """Keep the genes of a list; ids that the table does not know are kept without a symbol."""
        wanted = list(dict.fromkeys(gene_ids))
        return GeneTable(self.frame.reindex(wanted, fill_value="").rename_axis("gene_id"), source, whole=self)

    def find(self, symbol: str) -> Named | None:
        """Find the one gene that a symbol stands for.

        A current symbol outranks a former one, which outranks an alias. Within a rank a protein-coding gene is
        preferred, then one that HGNC knows to copies on patches and haplotypes; a symbol that is
        still ambiguous finds nothing. Case does not matter.

        Examples
        --------
        >>> bundled_genes().find("TP53")
        Named(gene_id='ENSG00000141510', kind='symbol')
        >>> bundled_genes().find("C1orf112")
        Named(gene_id='ENSG00000000460', kind='previous symbol')
        """
        return self._names.get(symbol.strip().upper())

    @cached_property
    def _names(self) -> dict[str, Named]:
        """Upper-case symbol to gene, ambiguous ones left out."""
        ranks: list[tuple[str, dict[str, list[str]]]] = [
            ("symbol", {}),
            ("previous symbol", {}),
            ("alias", {}),
        ]
        for column, (_, claims) in zip(("gene_name", "previous", "aliases"), ranks, strict=True):
            named = self.frame[column]
            for gene_id, text in named[named != ""].items():
                for symbol in text.upper().split("|"):
                    claims.setdefault(symbol, []).append(str(gene_id))
        in_hgnc = set(self.frame.index[self.frame["hgnc"] != ""])
        coding = set(self.frame.index[self.frame["biotype"].isin(CODING)])
        names: dict[str, Named] = {}
        for kind, claims in ranks:
            for symbol, claimants in claims.items():
                if symbol in names:
                    continue
                for preferred in (coding, in_hgnc):
                    if len(claimants) > 1:
                        claimants = [gene_id for gene_id in claimants if gene_id in preferred] or claimants
                # an ambiguous current symbol must not fall through to somebody else's alias
                names[symbol] = Named(claimants[0] if len(claimants) == 1 else "", kind)
        return {symbol: named for symbol, named in names.items() if named.gene_id}

    def identify(self, label: str, name: str | None = "") -> str | None:
        """Unversioned id of a labelled gene if this table has it, by id or else by its symbol.

        An Ensembl id that the table knows stands, whatever the symbol says; one that it does not know may
        have been retired since, and its symbol then finds the gene's present id.

        Parameters
        ----------
        label
            Ensembl id or symbol.
        name
            Symbol given beside the label; empty or None where there is none.
        """
        found = self.trace(label, name)
        return None if found is None else found.gene_id

    def trace(self, label: str, name: str | None = "") -> Named | None:
        """Do as :meth:`identify` does, and say by which kind of name: ``"id"``, or one of :meth:`find`."""
        ensembl = parse_ensembl(label)
        if ensembl is not None and ensembl.gene_id in self.frame.index:
            return Named(ensembl.gene_id, "id")
        whole = self if self.whole is None else self.whole
        if ensembl is not None and ensembl.gene_id in whole.frame.index:
            return None
        for symbol in (label if ensembl is None else "", name):
            if symbol and (found := whole.find(symbol)) is not None:
                return found if found.gene_id in self.frame.index else None
        return None

    def lengths(self, gene_ids: Iterable[str]) -> npt.NDArray[np.float64]:
        """Length of each gene's transcripts in base pairs, for counts to become TPM; NaN where unknown.

        It is one figure per gene, near that of a typical transcript: lengths of the quantification itself
        are better where there are any.

        Examples
        --------
        >>> bundled_genes().lengths(["ENSG00000111640", "ENSG99999999999"])
        array([1285.,   nan])
        """
        known = self.frame["length"].reindex(list(gene_ids))
        return pd.to_numeric(known, errors="coerce").to_numpy(dtype=np.float64)


def table_from_frame(frame: pd.DataFrame, source: str) -> GeneTable:
    """Make a table of a frame with ``gene_id`` and any of the other columns; the first row of an id stands."""
    frame = frame.drop_duplicates("gene_id").set_index("gene_id")
    return GeneTable(frame.reindex(columns=list(COLUMNS)).fillna("").astype(str), source)


@cache
def bundled_genes() -> GeneTable:
    """Human genes that come with the package: GENCODE 48 ids, symbols and biotypes, HGNC aliases.

    Sources and licences stand in ``data/genes/tables/README.md``.

    Examples
    --------
    >>> len(bundled_genes()), len(bundled_genes().of_biotype())
    (78894, 20120)
    """
    with resources.as_file(resources.files("gtex_vae.data.genes") / "tables" / "human_genes.tsv.gz") as path:
        frame = pd.read_csv(path, sep="\t", comment="#", dtype=str, keep_default_na=False)
    return table_from_frame(frame, "bundled: GENCODE 48, HGNC")


def common_genes(gene_sets: Sequence[Iterable[str]]) -> list[str]:
    """Unversioned Ensembl ids that all data sets share, sorted.

    Parameters
    ----------
    gene_sets
        Gene ids of each data set, with or without version.

    Raises
    ------
    DataError
        No gene is common to all, which means that the ids are of different kinds.

    Examples
    --------
    >>> common_genes([["ENSG00000000419.12", "ENSG00000000003.14"], ["ENSG00000000003"]])
    ['ENSG00000000003']
    """
    plain = [
        {gene.gene_id if (gene := parse_ensembl(label)) else label for label in ids} for ids in gene_sets
    ]
    if not plain:
        return []
    shared = set.intersection(*plain)
    if not shared:
        sizes = ", ".join(f"{len(ids)} ({min(ids, default='none')}...)" for ids in plain)
        raise DataError(
            f"no gene is common to the {len(plain)} data sets of {sizes} genes: harmonise them first"
        )
    return sorted(shared)


def gene_table(path: Path | str | None = None) -> GeneTable:
    """Load the genes of an annotation: a GTF, a gene list, or the bundled table.

    Parameters
    ----------
    path
        A GTF (.gtf, .gtf.gz) of any release, or a text file with one gene a line; the bundled table if None.
    """
    if path is None:
        return bundled_genes()
    from gtex_vae.data.genes.files import read_gene_list, read_gtf

    return read_gtf(path) if ".gtf" in Path(path).suffixes else read_gene_list(path)
