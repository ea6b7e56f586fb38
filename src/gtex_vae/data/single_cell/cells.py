"""Single-cell data opened for streaming: annotations in memory, counts read in blocks of rows."""

# i cells, g genes

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from gtex_vae.data.annotation_columns import column_named
from gtex_vae.data.readers.anndata import gene_ids_and_names
from gtex_vae.data.readers.backed import layer_names
from gtex_vae.data.readers.stores import find_element, open_store
from gtex_vae.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

BLOCK_ROWS = 16_384
BLOCK_VALUES = 1 << 26  # in a dense block


@dataclass(frozen=True)
class Cells:
    """Cells of an AnnData whose counts are read in blocks.

    Parameters
    ----------
    where
        Name in messages: a path, or ``AnnData``.
    obs
        One row per cell.
    gene_ids, gene_names, biotypes
        One per column; names and biotypes are None if unknown.
    element
        Cells x genes: array, sparse matrix, or a dataset on disk that can be sliced by rows.
    layers
        Names of the other matrices.
    """

    where: str
    obs: pd.DataFrame
    gene_ids: list[str]
    gene_names: list[str] | None
    biotypes: list[str] | None
    element: Any
    layers: tuple[str, ...]

    def blocks(self, rows: int | None = None) -> Iterator[tuple[slice, sp.csr_matrix | np.ndarray]]:
        """Read the counts in blocks of rows.

        Parameters
        ----------
        rows
            Cells per block; if None, as many as fit into 0.3 GB of a dense matrix, or 16,384 of a sparse one.
        """
        n_cells, n_genes = self.element.shape
        dense = not _is_sparse(self.element)
        if rows is None:
            rows = min(BLOCK_ROWS, max(1, BLOCK_VALUES // max(1, n_genes))) if dense else BLOCK_ROWS
        for start in range(0, n_cells, rows):
            block = slice(start, min(start + rows, n_cells))
            values = self.element[block]
            yield block, np.asarray(values) if dense else sp.csr_matrix(values)


@contextmanager
def open_cells(source: AnnData | Path | str, *, layer: str | None = None) -> Iterator[Cells]:
    """Open an AnnData, in memory or on disk (.h5ad, .zarr), without reading its counts.

    A matrix stored by columns (CSC) is read whole, because its rows are not contiguous.

    Parameters
    ----------
    source
        The data or its path.
    layer
        A layer, or ``raw`` for ``raw.X``; X if None.

    Yields
    ------
    Cells
        Valid inside the context.

    Raises
    ------
    DataError
        The file or layer does not exist, or the file is not an AnnData.
    """
    if not isinstance(source, Path | str):
        yield _of_anndata(source, layer)
        return
    path = Path(source)
    if not path.exists():
        raise DataError(f"{path} does not exist")
    with open_store(path, "zarr" if path.is_dir() else "h5ad") as store:
        missing = [name for name in ("obs", "var") if name not in store]
        if missing:
            raise DataError(f"{path} is not an AnnData: {' and '.join(missing)} missing")
        from anndata.io import read_elem, sparse_dataset

        element = find_element(path, store, layer)
        obs, var = read_elem(store["obs"]), read_elem(store["raw/var" if layer == "raw" else "var"])
        encoding = str(element.attrs.get("encoding-type", "array"))
        if encoding == "csr_matrix":
            element = sparse_dataset(element)
        elif encoding == "csc_matrix":
            element = read_elem(element).tocsr()
        layers = [*store["layers"]] if "layers" in store else []
        yield _describe(str(path), obs, var, element, [*layers, *(["raw"] if "raw" in store else [])])


def _of_anndata(adata: AnnData, layer: str | None) -> Cells:
    """Open an AnnData object, in memory or backed."""
    layers = [*layer_names(adata), *(["raw"] if adata.raw is not None else [])]
    if layer == "raw" and adata.raw is not None:
        element, var = adata.raw.X, adata.raw.var
    elif layer in (None, "X"):
        element, var = adata.X, adata.var
    elif layer in layers:
        element, var = adata.layers[layer], adata.var
    else:
        raise DataError(f"AnnData: has no layer {layer!r}; it has {', '.join(['X', *layers])}")
    if element is None:
        raise DataError(f"AnnData: has no X; name one of the layers {', '.join(layers)} with layer=")
    if sp.issparse(element) and element.format != "csr":
        element = element.tocsr()
    elif getattr(element, "format", "csr") == "csc":  # backed
        element = element.to_memory().tocsr()
    return _describe("AnnData", adata.obs, adata.var if var is None else var, element, layers)


def _describe(where: str, obs: pd.DataFrame, var: pd.DataFrame, element: Any, layers: Sequence[str]) -> Cells:
    """Make the `Cells`, after checking that the tables match the matrix."""
    if tuple(element.shape) != (len(obs), len(var)):
        raise DataError(
            f"{where}: X is {tuple(element.shape)} but obs has {len(obs)} rows and var {len(var)}"
        )
    if 0 in element.shape:
        raise DataError(f"{where} is empty: {element.shape[0]} cells x {element.shape[1]} genes")
    ids, names = gene_ids_and_names(var)
    biotypes = var["biotype"].astype(str).tolist() if "biotype" in var else None
    return Cells(where, obs, ids, names, biotypes, element, tuple(layers))


def _is_sparse(element: Any) -> bool:
    """Return True if its slices are sparse."""
    return sp.issparse(element) or hasattr(element, "to_memory")


def find_column(cells: Cells, wanted: str | None, names: Sequence[str], key: str) -> str:
    """Find the column of ``obs`` with the donors or the cell types.

    Parameters
    ----------
    cells
        The data.
    wanted
        Name given by the user; None to guess.
    names
        Common names, most likely first; case does not matter.
    key
        Config key for the message.

    Raises
    ------
    DataError
        The column does not exist; the message lists the columns.
    """
    columns = [str(name) for name in cells.obs.columns]
    if wanted is not None:
        if wanted in columns:
            return wanted
        raise DataError(
            f"{cells.where}: obs has no column {key}={wanted}; it has {', '.join(columns) or 'none'}"
        )
    found = column_named(columns, names)
    if found is not None:
        return str(found)
    raise DataError(
        f"{cells.where}: no column of obs looks like {key} ({', '.join(names[:4])}...); "
        f"it has {', '.join(columns) or 'none'}: name one with {key}=COLUMN"
    )
