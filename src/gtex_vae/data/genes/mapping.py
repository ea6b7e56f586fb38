"""Mapping of the columns of new data to a model's genes, with a report of missing, extra and renamed genes.

Shape suffixes: n samples, g the model's genes, c columns of the new data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from gtex_vae.data.genes.columns import Columns, Matrix, choose
from gtex_vae.data.genes.harmonise import count_and_examples
from gtex_vae.data.genes.ids import parse_ensembl, plain_symbol, warn_of_other_species
from gtex_vae.data.genes.table import GeneTable, Named, bundled_genes
from gtex_vae.data.units import log_offset
from gtex_vae.errors import DataError

# with half of the genes a sample is still embedded near its tissue; with fewer, most of the input is filled in
MIN_OVERLAP = 0.5


@dataclass(frozen=True)
class GeneMapping:
    """Columns of new data for each of a model's genes; :meth:`apply` gathers any block of samples.

    Parameters
    ----------
    columns
        Columns of the new data for each gene.
    present_g
        True where the new data has the gene.
    report
        Counts and examples, written as ``alignment.json``.
    """

    columns: Columns
    present_g: npt.NDArray[np.bool_]
    report: dict[str, Any]

    def apply(self, x_nc: Matrix, mean_g: npt.NDArray[np.float32], *, unit: str) -> npt.NDArray[np.float32]:
        """Gather a block of samples; missing genes are filled with their training mean.

        Parameters
        ----------
        x_nc
            Samples of the new data, dense or CSR, in the model's unit.
        mean_g
            Mean of each of the model's genes over its training samples, in the same unit: 0 after standardizing.
        unit
            The model's unit.

        Returns
        -------
        ndarray
            Dense float32, n x g; the input itself if it already has the model's genes in order.
        """
        taken = self.columns.take(x_nc, log_offset(unit), mean_g)
        if not sp.issparse(taken):
            return np.asarray(taken, dtype=np.float32)
        x_ng: npt.NDArray[np.float32] = taken.toarray()
        x_ng[:, ~self.present_g] = np.asarray(mean_g, dtype=np.float32)[~self.present_g]
        return x_ng


@dataclass(frozen=True)
class MappedMatrix:
    """New data in the order and unit of a model.

    Parameters
    ----------
    x_ng
        Dense float32, samples x the model's genes.
    present_g
        True where the new data has the gene.
    report
        As in :class:`GeneMapping`.
    """

    x_ng: npt.NDArray[np.float32]
    present_g: npt.NDArray[np.bool_]
    report: dict[str, Any]


def _trace(
    labels: Sequence[str],
    names: Sequence[str],
    model_ids: Sequence[str],
    model_names: Sequence[str],
    table: GeneTable,
) -> list[Named | None]:
    """Find the model's gene of each column, and the evidence for it."""
    ids = set(model_ids)
    counts = Counter(name.upper() for name in model_names if name)
    by_name = {
        name.upper(): Named(gene, "symbol")
        for gene, name in zip(model_ids, model_names, strict=True)
        if counts[name.upper()] == 1
    }

    # a model gene with a retired id is found by the current id of its symbol
    now: dict[str, Named] = {}
    for gene, name in zip(model_ids, model_names, strict=True):
        successor = table.find(name) if name and gene not in table else None
        if successor is not None and successor.gene_id not in ids:
            now[successor.gene_id] = Named(gene, successor.kind)

    def by_symbol(symbol: str) -> Named | None:
        found = by_name.get(symbol.upper()) or by_name.get(plain_symbol(symbol).upper()) or table.find(symbol)
        return found if found is not None and found.gene_id in ids else None

    traced: list[Named | None] = []
    for label, name in zip(labels, names, strict=True):
        ensembl = parse_ensembl(label)
        plain = ensembl.gene_id if ensembl else label
        if plain in ids:
            traced.append(Named(plain, "id"))
        elif plain in now:
            traced.append(now[plain])
        elif ensembl is None:
            traced.append(by_symbol(label) or by_symbol(name))
        else:
            # an id in the annotation is another gene, whatever its symbol
            traced.append(None if plain in table else by_symbol(name))
    return traced


def plan_gene_mapping(
    x_nc: Matrix,
    gene_ids: Sequence[str],
    gene_names: Sequence[str] | None,
    model_gene_ids: Sequence[str],
    *,
    model_gene_names: Sequence[str] | None = None,
    table: GeneTable | None = None,
    min_overlap: float = MIN_OVERLAP,
) -> GeneMapping:
    """Find the columns of each of a model's genes in new data.

    A column is matched by its Ensembl id without version and ``_PAR_Y``. A column without an id, or with a retired one,
    is matched by its symbol, former symbol or alias; so are retired ids of the model. Several columns of one gene are
    resolved as described in :mod:`gtex_vae.data.genes.columns`.

    Parameters
    ----------
    x_nc
        The new data, or a block of its samples; read only to choose between duplicates.
    gene_ids, gene_names
        Ids and symbols of the new data; symbols may be None.
    model_gene_ids, model_gene_names
        The model's genes in order, and their symbols if known.
    table
        Annotation to look up ids and symbols in; the bundled table if None.
    min_overlap
        Minimum share of the model's genes that the new data must have, between 0 and 1.

    Raises
    ------
    DataError
        The overlap is below ``min_overlap``, or ids and columns differ in number.
    """
    labels, model_ids = list(gene_ids), list(model_gene_ids)
    names = [""] * len(labels) if gene_names is None else list(gene_names)
    model_names = [""] * len(model_ids) if model_gene_names is None else list(model_gene_names)
    if not x_nc.shape[1] == len(labels) == len(names):
        raise DataError(
            f"the new data has {x_nc.shape[1]} columns but {len(labels)} gene ids and {len(names)} gene names"
        )
    traced = _trace(labels, names, model_ids, model_names, bundled_genes() if table is None else table)
    gene_of = [found.gene_id if found else None for found in traced]
    kind_of = [found.kind if found else "" for found in traced]
    columns = choose(labels, gene_of, kind_of, model_ids, x_nc)
    present_g = columns.source_g >= 0
    overlap = float(present_g.mean()) if len(model_ids) else 0.0
    if overlap < min_overlap or not present_g.any():
        raise DataError(
            f"only {present_g.sum()} of the model's {len(model_ids)} genes ({overlap:.1%}) are in the data, "
            f"fewer than min_overlap={min_overlap:.0%}; the ids of the data look like {', '.join(labels[:3])}, those of the "
            f"model like {', '.join(model_ids[:3])}; give unfiltered human data, or lower min_overlap"
        )
    used = [int(c) for c in columns.source_g[present_g]]
    warn_of_other_species([labels[c] for c in used if kind_of[c] != "id"], len(used))
    used_set = {*used, *(c for _, c in columns.added), *(c for _, c in columns.left_out)}
    versioned = sum(kind_of[c] == "id" and labels[c] != gene_of[c] for c in used)
    renamed = [
        f"{labels[c]} -> {gene_of[c]} ({kind_of[c]})"
        for c in used
        if kind_of[c] != "id" and (kind_of[c] != "symbol" or parse_ensembl(labels[c]) is not None)
    ]
    report = {
        "model_genes": len(model_ids),
        "data_genes": len(labels),
        "present": int(present_g.sum()),
        "overlap": overlap,
        "min_overlap": min_overlap,
        "identified_by": dict(Counter(kind_of[c] for c in used)),
        "version_stripped": versioned,
        "missing": count_and_examples([model_ids[g] for g in np.flatnonzero(~present_g)]),
        "missing_filled_with": "training mean",
        "extra": count_and_examples([label for c, label in enumerate(labels) if c not in used_set]),
        "renamed": count_and_examples(renamed),
        "duplicates": count_and_examples(
            [f"{labels[c]} left out for {labels[columns.source_g[g]]}" for g, c in columns.left_out]
        ),
        "y_copies_added": len(columns.added),
        "reordered": bool((np.diff(used) < 0).any()),
    }
    return GeneMapping(columns, present_g, report)


def map_genes(
    x_nc: Matrix,
    gene_ids: Sequence[str],
    gene_names: Sequence[str] | None,
    model_gene_ids: Sequence[str],
    *,
    mean_g: npt.NDArray[np.float32],
    unit: str,
    model_gene_names: Sequence[str] | None = None,
    table: GeneTable | None = None,
    min_overlap: float = MIN_OVERLAP,
) -> MappedMatrix:
    """Map new data to a model's genes at once: :func:`plan_gene_mapping`, then its ``apply``.

    Parameters
    ----------
    x_nc
        Samples x columns, dense or CSR, in the model's unit.
    gene_ids, gene_names, model_gene_ids, model_gene_names, table, min_overlap
        See :func:`plan_gene_mapping`.
    mean_g, unit
        See :meth:`GeneMapping.apply`.

    Examples
    --------
    >>> x_nc = np.float32([[1, 2]])
    >>> model = ["ENSG00000000003", "ENSG00000000005", "ENSG00000000419"]
    >>> new = map_genes(x_nc, ["ENSG00000000419.14", "TSPAN6"], None, model,
    ...             mean_g=np.float32([7, 8, 9]), unit="log2(TPM+1)")
    >>> new.x_ng, new.present_g.tolist(), new.report["missing"]["examples"]
    (array([[2., 8., 1.]], dtype=float32), [True, False, True], ['ENSG00000000005'])
    """
    plan = plan_gene_mapping(
        x_nc,
        gene_ids,
        gene_names,
        model_gene_ids,
        model_gene_names=model_gene_names,
        table=table,
        min_overlap=min_overlap,
    )
    return MappedMatrix(plan.apply(x_nc, mean_g, unit=unit), plan.present_g, plan.report)
