"""Matrices that are read a block of samples at a time: AnnData stores on disk, and AnnData in memory.

Shapes: n samples, g genes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from gtex_vae.data.readers.anndata import DECLARED, find_axes, gene_ids_and_names, inspect_store
from gtex_vae.data.readers.matrix import KeepGene, RawMatrix, Source, check_sample_ids, check_values
from gtex_vae.data.readers.read import read_matrix
from gtex_vae.data.readers.sniff import sniff
from gtex_vae.data.readers.stores import explain_damage, open_store, sliceable
from gtex_vae.data.readers.units import convert_on_reading, recognise_unit
from gtex_vae.data.units import check_stated_unit
from gtex_vae.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

_PROBED = 256


@contextmanager
def open_matrix(
    path: Path | str,
    *,
    keep_gene: KeepGene | None = None,
    unit: str | None = None,
    orientation: str | None = None,
    layer: str | None = None,
    allow_shape_mismatch: bool = False,
    scratch: Path | None = None,
) -> Iterator[RawMatrix]:
    """Open any matrix that `read_matrix` reads; AnnData stores with samples in rows stay on disk.

    Parameters
    ----------
    path, unit, orientation, layer, allow_shape_mismatch, scratch
        See `read_matrix`.
    keep_gene
        As in `read_matrix`, but a store keeps all its genes.

    Yields
    ------
    RawMatrix
        Its ``x_ng`` is an array, a CSR matrix, or an object that slices by rows like one; `block` slices all of them.
        A unit that a store states keeps its spelling.

    Raises
    ------
    DataError, ConfigError
        As `read_matrix`; the values of a store are checked block by block.
    """
    path = Path(path)
    kind = sniff(path)
    if not kind.format.store:
        yield read_matrix(
            path,
            keep_gene=keep_gene,
            unit=unit,
            orientation=orientation,
            layer=layer,
            allow_shape_mismatch=allow_shape_mismatch,
            scratch=scratch,
        )
        return
    format = kind.format.name
    with open_store(path, format) as store:
        with explain_damage(path, format):
            contents = inspect_store(path, store, orientation=orientation, layer=layer)
            matrix = RawMatrix(
                x_ng=sliceable(contents.element),
                sample_ids=contents.sample_ids,
                gene_ids=contents.gene_ids,
                gene_names=contents.gene_names,
                source=contents.source(path, format),
                obs=contents.obs,
                var=contents.var,
            )
        if contents.orientation == "samples_in_rows":
            yield name_unit(matrix, unit, contents.unit)
            return
    yield read_matrix(path, keep_gene=keep_gene, unit=unit, orientation=orientation, layer=layer)


def layer_names(adata: AnnData) -> list[str]:
    """List the layers of an AnnData without X, which anndata 0.13 counts as a layer under the key ``None``."""
    return [name for name in adata.layers if name is not None]


def from_anndata(adata: AnnData, *, unit: str | None = None, layer: str | None = None) -> RawMatrix:
    """View an AnnData, in memory or backed, as a matrix that was read; nothing is copied.

    Parameters
    ----------
    adata
        Samples x genes, or genes x samples where the ids show it.
    unit
        One of `gtex_vae.data.units.UNITS`; if None, ``uns["expression"]["unit"]`` or the values decide.
    layer
        Layer instead of X.

    Raises
    ------
    DataError
        The layer does not exist, samples repeat, or the unit cannot be recognised.
    """
    where = Path("AnnData")
    if layer is not None and layer not in layer_names(adata):
        raise DataError(f"{where}: has no layer {layer!r}; it has {', '.join(['X', *layer_names(adata)])}")
    orientation = find_axes(where, adata.obs_names, adata.var_names, None)
    if orientation == "genes_in_rows":
        adata = adata.T
    x_ng = adata.X if layer is None else adata.layers[layer]
    if x_ng is None:
        raise DataError(f"{where}: has no X; name a layer")
    genes, names = gene_ids_and_names(adata.var)
    samples = [str(name) for name in adata.obs_names]
    check_sample_ids(where, samples, "row")
    matrix = RawMatrix(
        x_ng=sp.csr_array(x_ng) if sp.issparse(x_ng) and x_ng.format != "csr" else x_ng,
        sample_ids=samples,
        gene_ids=genes,
        gene_names=names,
        source=Source(
            path=where, format="anndata", orientation=orientation, found_shape=(adata.n_vars, adata.n_obs)
        ),
        obs=adata.obs,
        var=adata.var,
    )
    stated = adata.uns.get("expression", {}).get("unit", "") if layer is None else ""
    return name_unit(matrix, unit, str(stated))


def block(matrix: RawMatrix, start: int, stop: int) -> RawMatrix:
    """Copy consecutive samples into memory as float32, dense or CSR, and check their values.

    Raises
    ------
    DataError
        Missing or infinite values.
    """
    return _in_memory(matrix, np.arange(start, stop), slice(start, stop))


def probe(matrix: RawMatrix) -> RawMatrix:
    """Copy up to 256 evenly spaced samples into memory, enough to recognise the unit."""
    n = len(matrix.sample_ids)
    rows = np.unique(np.linspace(0, n - 1, min(n, _PROBED)).astype(int))
    return _in_memory(matrix, rows, rows)


def name_unit(matrix: RawMatrix, stated: str | None, declared: str) -> RawMatrix:
    """Set the unit of a matrix: as stated by the caller, else as declared by the store, else as its values show."""
    path = matrix.source.path
    if stated is not None:
        matrix = matrix.with_unit(check_stated_unit(path, stated, None), "stated by unit=")
    elif declared:
        matrix = matrix.with_unit(declared, DECLARED)
    else:
        few = probe(matrix)
        matrix = matrix.with_unit(*recognise_unit(path, few.x_ng, few.first_negative))
    return convert_on_reading(matrix, in_place=False)


def _in_memory(matrix: RawMatrix, rows: np.ndarray, index: Any) -> RawMatrix:
    """Copy the rows that an index selects."""
    with explain_damage(matrix.source.path, matrix.source.format):
        if not isinstance(index, slice) and hasattr(matrix.x_ng, "oindex"):
            taken = matrix.x_ng.oindex[index]
        else:
            taken = matrix.x_ng[index]
    # a copy, because to_log2_tpm works in place
    x_ng = sp.csr_array(taken, dtype=np.float32) if sp.issparse(taken) else np.array(taken, np.float32)
    samples = [matrix.sample_ids[row] for row in rows]
    negative = check_values(matrix.source.path, x_ng, samples, matrix.gene_ids)
    return replace(matrix, x_ng=x_ng, sample_ids=samples, obs=None, first_negative=negative)
