"""Harmonisation of the genes of a matrix: unversioned Ensembl ids, one column each, of the wanted biotypes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gtex_vae.data.genes.columns import Columns, Matrix, choose
from gtex_vae.data.genes.ids import describe_ids, parse_ensembl, warn_of_other_species
from gtex_vae.data.genes.table import GeneTable
from gtex_vae.data.units import log_offset
from gtex_vae.errors import DataError

log = logging.getLogger(__name__)

EXAMPLES = 10
EXAMINED = 100
UNKNOWN = "unknown gene"
MIN_KNOWN = 0.1


@dataclass
class KeepGenes:
    """Predicate ``keep_gene(label, name)``, with which readers skip unwanted rows before parsing their numbers.

    Parameters
    ----------
    table
        The wanted genes.

    Attributes
    ----------
    dropped
        Number of rows dropped so far by reason, for the provenance.
    unknown
        First labels that are not genes.

    Examples
    --------
    >>> from gtex_vae.data.genes.table import bundled_genes
    >>> keep = KeepGenes(bundled_genes().of_biotype())
    >>> keep("ENSG00000000003.14", "TSPAN6"), keep("ENSG00000223972.5", "DDX11L1"), keep("nonsense", "")
    (True, False, False)
    >>> keep.dropped
    Counter({'gene of another biotype or list': 1, 'unknown gene': 1})
    """

    table: GeneTable
    dropped: Counter[str] = field(default_factory=Counter)
    unknown: list[str] = field(default_factory=list)

    def __call__(self, label: str, name: str | None = "") -> bool:
        """Check whether the row is a wanted gene; count it if not."""
        if self.table.trace(label, name) is not None:
            return True
        reason = _reason(self.table, label, name)
        self.dropped[reason] += 1
        if reason == UNKNOWN and len(self.unknown) < EXAMINED:
            self.unknown.append(label)
        return False

    def check(self, n_genes: int) -> None:
        """Refuse matrices of which fewer than a tenth of the genes is known: matches are then accidents.

        Parameters
        ----------
        n_genes
            Genes that were read, wanted or not.

        Raises
        ------
        DataError
            Nearly all ids are unknown.
        """
        known = n_genes - self.dropped[UNKNOWN]
        if known < MIN_KNOWN * n_genes:
            raise DataError(
                f"only {known:,} of {n_genes:,} genes are known; the ids look like {describe_ids(self.unknown)}, but must "
                "be human Ensembl ids or symbols"
            )


@dataclass(frozen=True)
class Harmonised:
    """A matrix with one column per gene.

    Parameters
    ----------
    x_ng
        Samples x genes, float32, in the unit of the input.
    var
        Indexed by gene id, with ``gene_name``, ``biotype`` and ``label`` (the name in the source).
    report
        Counts and examples of genes that were matched, renamed, added, left out and dropped.
    """

    x_ng: Matrix
    var: pd.DataFrame
    report: dict[str, Any]


def _reason(table: GeneTable, label: str, name: str | None) -> str:
    """Name the reason why a column is not among the wanted genes."""
    if table.whole is not None and table.whole.trace(label, name) is not None:
        return "gene of another biotype or list"
    return UNKNOWN


def count_and_examples(pairs: Sequence[Any]) -> dict[str, Any]:
    """Summarise a list for reports by its count and first examples."""
    return {"count": len(pairs), "examples": list(pairs[:EXAMPLES])}


@dataclass(frozen=True)
class GenePlan:
    """Columns of each gene of a matrix, before the values are gathered.

    Parameters
    ----------
    columns
        Columns of each gene.
    var, report
        As in `Harmonised`.
    known_as
        Id of each gene in the annotation, which for a retired id is the one of its symbol.
    """

    columns: Columns
    var: pd.DataFrame
    report: dict[str, Any]
    known_as: list[str]

    def with_lengths(self, table: GeneTable) -> tuple[GenePlan, npt.NDArray[np.float64] | None]:
        """Return the plan without the genes of unknown length, and the lengths; None if no length is known.

        Without this one unknown gene would leave the whole matrix in CPM.
        """
        length_g = table.lengths(self.known_as)
        known_g = length_g > 0
        if known_g.all() or not known_g.any():
            return self, length_g if known_g.all() else None
        genes = np.flatnonzero(known_g)
        log.info("dropped %d genes of unknown length, of %d", (~known_g).sum(), len(known_g))
        report = {**self.report, "genes_out": len(genes)}
        report["dropped"] = {**report["dropped"], "unknown length": int((~known_g).sum())}
        plan = GenePlan(
            self.columns.of_genes(genes), self.var.iloc[genes], report, [self.known_as[g] for g in genes]
        )
        return plan, length_g[genes]


def harmonise(
    x_ng: Matrix, labels: Sequence[str], names: Sequence[str] | None, table: GeneTable, *, unit: str
) -> Harmonised:
    """Identify the genes of a matrix and make each a single column, in the order of the input.

    Parameters
    ----------
    x_ng
        Samples x columns, dense or CSR.
    labels
        Ensembl ids of any kind, or symbols.
    names
        Symbols of the columns; None or empty strings where there are none.
    table
        The wanted genes. A retired or unknown Ensembl id is wanted if the gene of its symbol is, and keeps its id. If the
        table is a whole annotation rather than a selection, it is kept in any case.
    unit
        Unit of ``x_ng``; two copies of a gene are added on its linear scale (see :mod:`gtex_vae.data.genes.columns`).

    Raises
    ------
    DataError
        No column is a gene of the table.

    Examples
    --------
    >>> import numpy as np
    >>> from gtex_vae.data.genes.table import bundled_genes
    >>> x_ng = np.float32([[1, 2, 3]])
    >>> out = harmonise(x_ng, ["ENSG00000182378.13", "ENSG00000182378.13_PAR_Y", "IL8"], None,
    ...                 bundled_genes().of_biotype(), unit="TPM")
    >>> out.x_ng, list(out.var["gene_name"])
    (array([[3., 3.]], dtype=float32), ['PLCXD1', 'CXCL8'])
    """
    plan = plan_genes(x_ng, labels, names, table)
    return Harmonised(plan.columns.take(x_ng, log_offset(unit)), plan.var, plan.report)


def plan_genes(
    x_ng: Matrix, labels: Sequence[str], names: Sequence[str] | None, table: GeneTable
) -> GenePlan:
    """Identify the genes of a matrix; see `harmonise`.

    Parameters
    ----------
    x_ng
        Samples x columns, in memory or on disk; read only to choose between duplicates.
    labels, names, table
        As for `harmonise`.

    Raises
    ------
    DataError
        No column is a gene of the table.
    """
    names = [""] * len(labels) if names is None else names
    found = _identify(labels, names, table)
    genes = [gene for gene in dict.fromkeys(found.gene_of) if gene is not None]
    if not genes:
        raise DataError(
            f"none of the {len(labels)} genes is in {table.source}: they look like {describe_ids(labels)}; use human "
            "Ensembl ids or symbols, or give their annotation with gene_list="
        )
    identified = [label for label, gene in zip(labels, found.gene_of, strict=True) if gene is not None]
    warn_of_other_species(identified, len(identified))
    columns = choose(labels, found.gene_of, found.kind_of, genes, x_ng)
    if columns.left_out:
        found.dropped["duplicate of a gene"] = len(columns.left_out)
    known = [found.known_as.get(gene, gene) for gene in genes]
    symbols = table.frame["gene_name"].reindex(genes, fill_value="")
    own = [names[c] for c in columns.source_g]
    var = pd.DataFrame(
        {
            "gene_name": [name or given for name, given in zip(symbols, own, strict=True)],
            "biotype": table.frame["biotype"].reindex(known, fill_value="").to_list(),
            "label": [labels[c] for c in columns.source_g],
        },
        index=pd.Index(genes, name="gene_id"),
    )
    duplicates = [f"{labels[c]} left out for {labels[columns.source_g[g]]}" for g, c in columns.left_out]
    report = {
        "annotation": table.source,
        "genes_in": len(labels),
        "genes_out": len(genes),
        "identified_by": dict(Counter(kind for kind in found.kind_of if kind)),
        "renamed": count_and_examples(found.renamed),
        "retired_ids": count_and_examples(found.retired),
        "y_copies_added": len(columns.added),
        "duplicates": count_and_examples(duplicates),
        "dropped": dict(found.dropped),
    }
    return GenePlan(columns, var, report, known)


@dataclass(frozen=True)
class _Identified:
    """Gene of each column (None if unwanted) and the evidence for it, with notes for the report."""

    gene_of: list[str | None]
    kind_of: list[str]
    known_as: dict[str, str]
    dropped: Counter[str]
    renamed: list[str]
    retired: list[str]


def _identify(labels: Sequence[str], names: Sequence[str], table: GeneTable) -> _Identified:
    """Identify the columns of a matrix by id, else by symbol."""
    out = _Identified([], [], {}, Counter(), [], [])
    for label, name in zip(labels, names, strict=True):
        found = table.trace(label, name)
        ensembl = parse_ensembl(label)
        if found is None and (ensembl is None or table.whole is not None):
            out.dropped[_reason(table, label, name)] += 1
            out.gene_of.append(None)
            out.kind_of.append("")
            continue
        if found is not None:
            gene = found.gene_id if ensembl is None else ensembl.gene_id
            out.known_as[gene] = found.gene_id
            if found.kind != "id" and ensembl is not None:
                out.retired.append(f"{label} ({name}, now {found.gene_id})")
            elif found.kind not in ("id", "symbol"):
                out.renamed.append(f"{label} -> {gene} ({found.kind})")
        # a given id is kept even if retired, because its successor may be another locus
        out.gene_of.append(ensembl.gene_id if ensembl is not None else found.gene_id if found else None)
        out.kind_of.append("id" if ensembl is not None else found.kind if found else "")
    return out
