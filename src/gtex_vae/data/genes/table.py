"""The table of human genes: ids, symbols, biotypes and lengths, and lookup of a gene by any of its names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from gtex_vae.data.genes.ids import parse_ensembl, plain_symbol
from gtex_vae.errors import DataError

CODING = ("protein_coding",)
COLUMNS = ("gene_name", "biotype", "length", "hgnc", "previous", "aliases")


class Named(NamedTuple):
    """The gene of a symbol, and the kind of name that the symbol is."""

    gene_id: str
    kind: str


@dataclass(frozen=True)
class GeneTable:
    """Genes of one annotation.

    Parameters
    ----------
    frame
        One row per gene, indexed by Ensembl id without version, with text columns ``gene_name``,
        ``biotype``, ``length``, ``hgnc``, ``previous`` and ``aliases``; an empty string is a missing fact,
        and ``|`` separates several names.
    source
        Origin of the facts, for the provenance.
    whole
        The table that this one was selected from, with the names of the genes that were not selected.
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
        """Keep the genes of a list; ids that are not in the table are kept without a symbol."""
        wanted = list(dict.fromkeys(gene_ids))
        return GeneTable(self.frame.reindex(wanted, fill_value="").rename_axis("gene_id"), source, whole=self)

    def find(self, symbol: str) -> Named | None:
        """Find the gene of a symbol.

        A current symbol takes precedence over a former one, and that over an alias. Within a rank a protein-coding gene
        is preferred, then a gene in HGNC over copies on patches and haplotypes. A symbol that is still ambiguous finds
        nothing. Case is ignored, and so is an Entrez id after the symbol. Missing values (NA, ---) and numbers are not
        symbols, although some are former names.

        Examples
        --------
        >>> bundled_genes().find("TP53")
        Named(gene_id='ENSG00000141510', kind='symbol')
        >>> bundled_genes().find("C1orf112")
        Named(gene_id='ENSG00000000460', kind='previous symbol')
        """
        return self._names.get(plain_symbol(symbol).upper())

    @cached_property
    def _names(self) -> dict[str, Named]:
        """Gene of each upper-case symbol, without ambiguous ones."""
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
                # an ambiguous current symbol must not match the alias of another gene
                names[symbol] = Named(claimants[0] if len(claimants) == 1 else "", kind)
        return {symbol: named for symbol, named in names.items() if named.gene_id}

    def identify(self, label: str, name: str | None = "") -> str | None:
        """Find the unversioned id of a labelled gene in this table, by id or else by symbol.

        An Ensembl id in the table is used whatever the symbol is. An id that is not in the table may be retired; the
        current id is then found by the symbol.

        Parameters
        ----------
        label
            Ensembl id or symbol.
        name
            Symbol of the row, empty or None if it has none.
        """
        found = self.trace(label, name)
        return None if found is None else found.gene_id

    def trace(self, label: str, name: str | None = "") -> Named | None:
        """Find a labelled gene as :meth:`identify` does, with the kind of name: ``"id"``, or one of :meth:`find`."""
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
        """Length of each gene's transcripts in base pairs, to convert counts to TPM; NaN where unknown.

        One value per gene, close to that of a typical transcript. Effective lengths of the quantification itself are more
        exact where available.

        Examples
        --------
        >>> bundled_genes().lengths(["ENSG00000111640", "ENSG99999999999"])
        array([1285.,   nan])
        """
        known = self.frame["length"].reindex(list(gene_ids))
        return pd.to_numeric(known, errors="coerce").to_numpy(dtype=np.float64)


def table_from_frame(frame: pd.DataFrame, source: str) -> GeneTable:
    """Make a table from a frame with ``gene_id`` and any of the other columns; the first row of an id is kept."""
    frame = frame.drop_duplicates("gene_id").set_index("gene_id")
    return GeneTable(frame.reindex(columns=list(COLUMNS)).fillna("").astype(str), source)


@cache
def bundled_genes() -> GeneTable:
    """Load the human genes of the package: GENCODE 48 ids, symbols, biotypes and lengths, HGNC aliases.

    Sources and licences: ``data/genes/tables/README.md``.

    Examples
    --------
    >>> len(bundled_genes()), len(bundled_genes().of_biotype())
    (78894, 20120)
    """
    with resources.as_file(resources.files("gtex_vae.data.genes") / "tables" / "human_genes.tsv.gz") as path:
        frame = pd.read_csv(path, sep="\t", comment="#", dtype=str, keep_default_na=False)
    return table_from_frame(frame, "bundled: GENCODE 48, HGNC")


def common_genes(gene_sets: Sequence[Iterable[str]]) -> list[str]:
    """Find the unversioned Ensembl ids that all data sets share, sorted.

    Parameters
    ----------
    gene_sets
        Gene ids of each data set, with or without version.

    Raises
    ------
    DataError
        No gene is common to all; the ids are then of different kinds.

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
            f"no gene is common to the {len(plain)} data sets of {sizes} genes; run preprocess on them first"
        )
    return sorted(shared)
