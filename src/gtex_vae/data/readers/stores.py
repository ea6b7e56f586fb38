"""Opening of AnnData stores, .h5ad and .zarr: the only place that opens them for reading piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import scipy.sparse as sp

from gtex_vae.errors import DataError


@contextmanager
def open_store(path: Path, format: str) -> Iterator[Any]:
    """Open a store, ``h5ad`` or ``zarr``, for reading.

    Raises
    ------
    DataError
        The store is damaged or contains pickled objects.
    """
    store = open_group(path, format)
    try:
        yield store
    finally:
        if format == "h5ad":
            store.close()


def open_group(path: Path, format: str) -> Any:
    """Open a store that stays open as long as it is referenced; see `open_store`."""
    with explain_damage(path, format):
        if format == "h5ad":
            import h5py

            return h5py.File(path, "r")
        import zarr

        refuse_pickle(path)
        return zarr.open_group(str(path), mode="r")


@contextmanager
def explain_damage(path: Path, format: str) -> Iterator[None]:
    """Turn the exceptions of h5py, zarr and anndata into a `DataError`: all of them mean damaged content."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path}: the {format} store is damaged or not an AnnData ({first}); write it again"
        ) from error


def refuse_pickle(path: Path) -> None:
    """Refuse zarr v2 arrays of pickled objects, because unpickling can run code."""
    for metadata in path.rglob(".zarray"):
        try:
            filters = json.loads(metadata.read_text()).get("filters") or []
        except ValueError:
            continue
        if any(entry.get("id") == "pickle" for entry in filters):
            raise DataError(
                f"{metadata.parent}: contains pickled objects, which are never opened; write strings instead"
            )


def read_element(store: Any, name: str) -> Any:
    """Read one element, such as ``obs``, as AnnData writes it."""
    from anndata.io import read_elem

    return read_elem(store[name])


def find_element(path: Path, store: Any, layer: str | None) -> Any:
    """Return X, ``raw.X`` or a layer without reading its values.

    Raises
    ------
    DataError
        The store does not have it.
    """
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


def sliceable(element: Any) -> Any:
    """Return an object that slices by rows: a dense array or CSR on disk as they are, CSC read into memory as CSR."""
    from anndata.io import read_elem, sparse_dataset

    encoding = str(element.attrs.get("encoding-type", "array"))
    if encoding == "csc_matrix":
        return sp.csr_array(read_elem(element))
    return sparse_dataset(element) if encoding == "csr_matrix" else element
