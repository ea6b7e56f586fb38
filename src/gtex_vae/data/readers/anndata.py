"""AnnData stores, .h5ad and .zarr, dense or sparse; only the wanted genes are kept in memory.

Shapes: n samples, g genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from gtex_vae.data.genes.ids import parse_ensembl
from gtex_vae.data.readers.matrix import Orientation, RawMatrix, Source, check_sample_ids, check_values
from gtex_vae.data.readers.orientation import are_ensembl, find_orientation
from gtex_vae.data.readers.registry import ReadOptions
from gtex_vae.data.readers.stores import explain_damage, find_element, open_store, read_element
from gtex_vae.data.readers.units import recognise_unit
from gtex_vae.data.rows import rows_of
from gtex_vae.data.units import canonical_unit
from gtex_vae.errors import DataError
from gtex_vae.provenance import sha256

if TYPE_CHECKING:
    import pandas as pd

DECLARED = "stated in uns['expression']['unit']"
_GENE_NAME = (
    "gene_name",
    "gene_symbol",
    "gene_symbols",
    "feature_name",
    "gene_short_name",
    "symbol",
    "description",
)
_BLOCK_VALUES = 1 << 24
_EXAMINED = 256


def read(path: Path, options: ReadOptions) -> RawMatrix:
    """Read X, or one layer, of an AnnData store with its tables of samples and genes.

    Parameters
    ----------
    path
        File (.h5ad) or folder (.zarr).
    options
        ``keep_gene`` is applied block by block. ``orientation`` is for stores whose ids do not show it; those are
        otherwise read as AnnData defines them, samples in rows. ``layer`` is a layer's name, or ``raw`` for ``raw.X``.

    Returns
    -------
    RawMatrix
        Its unit is the one of ``uns["expression"]["unit"]``, else recognised from all genes before any is left out,
        because only whole samples have telling totals. Sparse values stay sparse (CSR).

    Raises
    ------
    DataError
        The store is not an AnnData, lacks the layer, is damaged, or has missing or infinite values.
    """
    format = "zarr" if path.is_dir() else "h5ad"
    with open_store(path, format) as store, explain_damage(path, format):
        contents = inspect_store(path, store, orientation=options.orientation, layer=options.layer)
        genes, names = contents.gene_ids, contents.gene_names
        keep = np.array(
            [
                options.keep_gene is None or options.keep_gene(gene, names[at] if names else None)
                for at, gene in enumerate(genes)
            ],
            bool,
        )
        unit, reason = canonical_unit(contents.unit), DECLARED if contents.unit else ""
        full = _read_full(contents)
        if not unit and options.unit is None:
            unit, reason = recognise_unit(path, *_examined(contents, full))
        x_ng = _wanted_values(contents.element, full, keep)
        genes = [gene for gene, wanted in zip(genes, keep.tolist(), strict=True) if wanted]
        names = names and [name for name, wanted in zip(names, keep.tolist(), strict=True) if wanted]
        return RawMatrix(
            x_ng=x_ng,
            sample_ids=contents.sample_ids,
            gene_ids=genes,
            gene_names=names,
            source=contents.source(path, format),
            unit=unit,
            unit_reason=reason,
            obs=contents.obs,
            var=contents.var[keep],
            first_negative=check_values(path, x_ng, contents.sample_ids, genes),
        )


@dataclass(frozen=True)
class StoreContents:
    """Tables of an open store and its values, which are not read yet.

    Parameters
    ----------
    element
        X or a layer: an array, or the group of a sparse matrix.
    orientation
        The axis that holds the genes.
    obs, var
        Tables of the samples and of the genes.
    gene_ids, gene_names
        One for each row of ``var``; names are None where the store has none.
    unit
        As ``uns["expression"]["unit"]`` states it, or empty.
    """

    element: Any
    orientation: Orientation
    obs: pd.DataFrame
    var: pd.DataFrame
    gene_ids: list[str]
    gene_names: list[str] | None
    unit: str

    @property
    def sample_ids(self) -> list[str]:
        """Sample ids in the order of the store."""
        return [str(name) for name in self.obs.index]

    def source(self, path: Path, format: str) -> Source:
        """Describe the file for the provenance record; computes the digest of the whole store."""
        return Source(
            path=path,
            format=format,
            orientation=self.orientation,
            found_shape=(len(self.var), len(self.obs)),
            sha256=sha256(path),
        )


def inspect_store(path: Path, store: Any, *, orientation: str | None, layer: str | None) -> StoreContents:
    """Read the tables of an open store and locate its values.

    Raises
    ------
    DataError
        The store is not an AnnData, lacks the layer, has a shape that does not fit, or repeats samples.
    """
    missing = [name for name in ("obs", "var") if name not in store]
    if missing:
        what = "; a 10x file: convert it with scanpy.read_10x_h5" if "matrix" in store else ""
        raise DataError(f"{path}: not an AnnData, {' and '.join(missing)} missing{what}")
    obs, var = read_element(store, "obs"), read_element(store, "raw/var" if layer == "raw" else "var")
    element = find_element(path, store, layer)
    if tuple(element.attrs.get("shape", ())) or hasattr(element, "shape"):
        shape = tuple(int(size) for size in element.attrs.get("shape", getattr(element, "shape", ())))
        if shape != (len(obs), len(var)):
            raise DataError(
                f"{path}: X is {shape} but obs has {len(obs):,} rows and var {len(var):,}; write it again"
            )
    way = find_axes(path, obs.index, var.index, orientation)
    genes_table, samples_table = (obs, var) if way == "genes_in_rows" else (var, obs)
    genes, names = gene_ids_and_names(genes_table)
    stated = "uns/expression/unit" in store and layer is None
    unit = str(read_element(store, "uns/expression/unit")) if stated else ""
    contents = StoreContents(element, way, samples_table, genes_table, genes, names, unit)
    check_sample_ids(path, contents.sample_ids, "row" if way == "samples_in_rows" else "column")
    return contents


def find_axes(path: Path, rows: Sequence[str], columns: Sequence[str], stated: str | None) -> Orientation:
    """Find the axis of the genes: columns, as AnnData defines it, unless the rows are gene ids or the user states it."""
    rows, columns = [str(name) for name in rows], [str(name) for name in columns]
    if stated is None and not (are_ensembl(rows) and not are_ensembl(columns)):
        return "samples_in_rows"
    return find_orientation(path, rows, columns, stated=stated)


def gene_ids_and_names(table: Any) -> tuple[list[str], list[str] | None]:
    """Take ids from the index, or from the column of Ensembl ids where the index contains symbols."""
    index = [str(name) for name in table.index]
    by_name = {str(name).lower(): name for name in table.columns}
    if not are_ensembl(index):
        for column in table.columns:
            values = table[column].astype(str).tolist()
            if are_ensembl(values):
                # a gene without an id keeps its symbol
                return [
                    value if parse_ensembl(value) else name for value, name in zip(values, index, strict=True)
                ], index
    name_at = next((by_name[name] for name in _GENE_NAME if name in by_name), None)
    return index, None if name_at is None else table[name_at].astype(str).tolist()


def _read_full(contents: StoreContents) -> Any:
    """Read all genes where the layout of the store requires it: sparse, or genes in rows. None otherwise."""
    element = contents.element
    if str(element.attrs.get("encoding-type", "array")) in ("csr_matrix", "csc_matrix"):
        import scipy.sparse as sp
        from anndata.io import read_elem

        full = sp.csr_matrix(read_elem(element), dtype=np.float32)
        return full.T.tocsr() if contents.orientation == "genes_in_rows" else full
    return element[:].T if contents.orientation == "genes_in_rows" else None


def _examined(contents: StoreContents, full: Any) -> tuple[Any, str | None]:
    """Select samples for the recognition of the unit, without genes of missing values, and find a negative value."""
    n = len(contents.obs)
    rows = np.unique(np.linspace(0, max(n - 1, 0), min(n, _EXAMINED)).astype(int))
    few = rows_of(contents.element, rows) if full is None else full[rows]
    x_sg = np.asarray(few.toarray() if hasattr(few, "toarray") else few, np.float32)
    finite = np.isfinite(x_sg).all(axis=0)
    x_sg = x_sg if finite.all() else x_sg[:, finite]
    if not (x_sg < 0).any():
        return x_sg, None
    row, column = np.argwhere(x_sg < 0)[0]
    gene = contents.gene_ids[np.flatnonzero(finite)[column]]
    return x_sg, f"sample {contents.sample_ids[rows[row]]!r}, gene {gene!r}: {x_sg[row, column]:g}"


def _wanted_values(element: Any, full: Any, keep: np.ndarray) -> Any:
    """Select the wanted genes as float32, reading a block of rows at a time where not all was read."""
    columns = np.flatnonzero(keep)
    if full is not None and hasattr(full, "tocsr"):
        return full if keep.all() else full[:, columns].tocsr()
    if full is not None:
        return np.ascontiguousarray(full[:, columns], np.float32)
    n, g = element.shape
    x_ng = np.empty((n, columns.size), np.float32)
    chunk = (element.chunks or (1,))[0]
    step = max(1, _BLOCK_VALUES // max(1, g) // chunk) * chunk
    for start in tqdm(range(0, n, step), desc="reading samples", delay=2, leave=False, disable=None):
        block = element[start : start + step]
        x_ng[start : start + step] = block if keep.all() else block[:, columns]
    return x_ng
