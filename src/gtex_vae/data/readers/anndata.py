"""AnnData stores, .h5ad and .zarr, dense or sparse, read without holding genes that are not wanted.

Shapes: n samples, g genes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tqdm import tqdm

from gtex_vae.data.genes.table import parse_ensembl
from gtex_vae.data.readers.matrix import (
    KeepGene,
    Orientation,
    RawMatrix,
    Source,
    check_sample_ids,
    check_values,
)
from gtex_vae.data.readers.orientation import are_ensembl, find_orientation
from gtex_vae.errors import DataError
from gtex_vae.provenance import sha256

if TYPE_CHECKING:
    import pandas as pd

DECLARED = "the store states it in uns['expression']['unit']"
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


def read_annotated(
    path: Path,
    format: Literal["h5ad", "zarr"],
    *,
    keep_gene: KeepGene | None = None,
    orientation: str | None = None,
    layer: str | None = None,
) -> RawMatrix:
    """Read X, or one layer, of an AnnData store with its tables of samples and genes.

    Parameters
    ----------
    path
        File (.h5ad) or folder (.zarr).
    format
        Which of the two.
    keep_gene
        Called with id and symbol of each gene; the others are left out block by block.
    orientation
        ``genes_in_rows`` or ``samples_in_rows`` where the ids do not tell; stores without telling ids are taken as
        AnnData defines them, samples in rows.
    layer
        Name of a layer, or ``raw`` for ``raw.X``; X if None.

    Returns
    -------
    RawMatrix
        The unit is filled in where ``uns["expression"]["unit"]`` states it. Sparse stays sparse (CSR).

    Raises
    ------
    DataError
        No AnnData in the store, a missing layer, damaged content, missing or infinite values.
    """
    with open_store(path, format) as store, explain_damage(path, format):
        found = look(path, store, orientation=orientation, layer=layer)
        genes, names = found.gene_ids, found.gene_names
        keep = np.array(
            [
                keep_gene is None or keep_gene(gene, names[at] if names else None)
                for at, gene in enumerate(genes)
            ],
            bool,
        )
        x_ng = _values(found.element, keep, found.orientation)
        genes = [gene for gene, wanted in zip(genes, keep.tolist(), strict=True) if wanted]
        names = names and [name for name, wanted in zip(names, keep.tolist(), strict=True) if wanted]
        unit = found.unit and found.unit.lower().replace(" ", "").replace("tpmorrpkm", "tpm/rpkm")
        return RawMatrix(
            x_ng=x_ng,
            sample_ids=found.sample_ids,
            gene_ids=genes,
            gene_names=names,
            source=found.source(path, format),
            unit=unit or "",
            unit_reason=DECLARED if unit else "",
            obs=found.obs,
            var=found.var[keep],
            first_negative=check_values(path, x_ng, found.sample_ids, genes),
        )


@dataclass(frozen=True)
class Found:
    """What an open store holds, its values not yet read.

    Parameters
    ----------
    element
        X or a layer: array, or group of a sparse matrix.
    orientation
        Which axis holds the genes.
    obs, var
        Tables of the samples and of the genes.
    gene_ids, gene_names
        One for each row of ``var``; names None where the store has none.
    unit
        As ``uns["expression"]["unit"]`` states it, empty where it does not.
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
        """In the order of the store."""
        return [str(name) for name in self.obs.index]

    def source(self, path: Path, format: str) -> Source:
        """Facts for the provenance record; reads the whole store for its digest."""
        return Source(
            path=path,
            format=format,
            orientation=self.orientation,
            found_shape=(len(self.var), len(self.obs)),
            sha256=sha256(path),
        )


@contextmanager
def open_store(path: Path, format: str) -> Iterator[Any]:
    """Open an AnnData store, ``h5ad`` or ``zarr``, for reading."""
    if format == "h5ad":
        import h5py

        with explain_damage(path, format):
            store = h5py.File(path, "r")
        with store:
            yield store
    else:
        import zarr

        with explain_damage(path, format):
            refuse_pickle(path)
            store = zarr.open_group(str(path), mode="r")
        yield store


@contextmanager
def explain_damage(path: Path, format: str) -> Iterator[None]:
    """Turn whatever h5py, zarr and anndata raise for damaged bytes into a `DataError`: all mean the same."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path}: the {format} store is damaged or no AnnData ({first}); write it again"
        ) from error


def look(path: Path, store: Any, *, orientation: str | None, layer: str | None) -> Found:
    """Read the tables of an open store, and find its values.

    Raises
    ------
    DataError
        No AnnData, no such layer, a shape that does not fit, repeated samples.
    """
    from anndata.io import read_elem

    missing = [name for name in ("obs", "var") if name not in store]
    if missing:
        what = "; a 10x file: convert it with scanpy.read_10x_h5" if "matrix" in store else ""
        raise DataError(f"{path}: no AnnData, {' and '.join(missing)} missing{what}")
    obs, var = read_elem(store["obs"]), read_elem(store["var"] if layer != "raw" else store["raw/var"])
    element = element_of(path, store, layer)
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
    unit = str(read_elem(store["uns/expression/unit"])) if stated else ""
    found = Found(element, way, samples_table, genes_table, genes, names, unit)
    check_sample_ids(path, found.sample_ids, "row" if way == "samples_in_rows" else "column")
    return found


def element_of(path: Path, store: Any, layer: str | None) -> Any:
    """X, raw.X or a layer."""
    if layer in (None, "X"):
        if "X" not in store:
            raise DataError(
                f"{path}: has no X; name one of the layers {sorted(store.get('layers', {}))} with layer="
            )
        return store["X"]
    key = "raw/X" if layer == "raw" else f"layers/{layer}"
    if key not in store:
        layers = sorted(store["layers"]) if "layers" in store else []
        raise DataError(
            f"{path}: has no layer {layer!r}; it has {', '.join(['X', *layers, *('raw' in store) * ['raw']])}"
        )
    return store[key]


def find_axes(path: Path, rows: Sequence[str], columns: Sequence[str], stated: str | None) -> Any:
    """AnnData says samples in rows; only gene ids in rows, or the user, overrule it."""
    rows, columns = [str(name) for name in rows], [str(name) for name in columns]
    if stated is None and not (are_ensembl(rows) and not are_ensembl(columns)):
        return "samples_in_rows"
    return find_orientation(path, rows, columns, stated=stated)


def gene_ids_and_names(table: Any) -> tuple[list[str], list[str] | None]:
    """Ids from the index, or from the column that holds Ensembl ids where the index holds symbols."""
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


def _values(element: Any, keep: np.ndarray, way: str) -> Any:
    """Read the wanted genes as float32, blocks of rows at a time."""
    from anndata.io import read_elem

    encoding = str(element.attrs.get("encoding-type", "array"))
    if encoding in ("csr_matrix", "csc_matrix"):
        import scipy.sparse as sp

        full = sp.csr_matrix(read_elem(element), dtype=np.float32)
        full = full.T.tocsr() if way == "genes_in_rows" else full
        return sp.csr_matrix(full if keep.all() else full[:, np.flatnonzero(keep)])
    if way == "genes_in_rows":
        return np.ascontiguousarray(np.asarray(element[:][keep], np.float32).T)
    n, g = element.shape
    columns = np.flatnonzero(keep)
    x_ng = np.empty((n, columns.size), np.float32)
    chunk = (element.chunks or (1,))[0]
    step = max(1, _BLOCK_VALUES // max(1, g) // chunk) * chunk
    for start in tqdm(range(0, n, step), desc="reading samples", delay=2, leave=False, disable=None):
        block = element[start : start + step]
        x_ng[start : start + step] = block if keep.all() else block[:, columns]
    return x_ng


def refuse_pickle(path: Path) -> None:
    """Refuse zarr v2 arrays of pickled objects, which could run code."""
    for metadata in path.rglob(".zarray"):
        try:
            filters = json.loads(metadata.read_text()).get("filters") or []
        except ValueError:
            continue
        if any(entry.get("id") == "pickle" for entry in filters):
            raise DataError(
                f"{metadata.parent}: holds pickled objects, which are never opened; write strings instead"
            )
