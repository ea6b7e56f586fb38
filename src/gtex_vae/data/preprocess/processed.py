"""Processed AnnData that all later stages read: made once, checked when read."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from gtex_vae import provenance
from gtex_vae.config import build, find_target
from gtex_vae.data.expression_file import write_expression
from gtex_vae.data.preprocess.fingerprint import (
    PREPARE_VERSION,
    fingerprint,
    stored_fingerprint,
    why_stale,
)
from gtex_vae.data.preprocess.gene_lists import write_lists
from gtex_vae.data.preprocess.near_duplicates import STORED as DUPLICATES
from gtex_vae.data.preprocess.near_duplicates import search, to_json
from gtex_vae.data.rows import StreamedAnnData
from gtex_vae.errors import DataError
from gtex_vae.files import write_beside

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

log = logging.getLogger(__name__)


def make_processed(
    processed: Path,
    prepare: dict[str, Any],
    *,
    overwrite: bool = False,
    common_with: Sequence[str] = (),
    in_chunks: bool = False,
) -> bool:
    """Make the processed file and its gene lists, unless a file made with these settings exists.

    Parameters
    ----------
    processed
        Path of the AnnData.
    prepare
        ``_target_`` and arguments of the function that makes it.
    overwrite
        Make it even if it exists.
    common_with
        Other data sets, for ``common_gene.txt``: see `gtex_vae.data.preprocess.gene_lists.write_lists`.
    in_chunks
        Make it a block of samples at a time with a temporary folder next to it, if the function supports that; the
        result is the same.

    Returns
    -------
    bool
        True if it was made, False if it existed.
    """
    settings = fingerprint(prepare)
    processed.parent.mkdir(parents=True, exist_ok=True)
    # the jobs of a sweep start at the same time: one makes the file, the others wait
    with FileLock(processed.with_name(f".{processed.name}.lock")):
        if processed.exists() and not overwrite:
            reason = why_stale(processed, prepare)
            if reason is None:
                if common_with:
                    write_lists(processed, common_with)
                return False
            log.info("making %s again: %s", processed, reason)
        if in_chunks and "scratch" in signature(find_target(prepare["_target_"])).parameters:
            with TemporaryDirectory(prefix=".scratch.", dir=processed.parent) as scratch:
                _write_in_chunks(processed, build(prepare, scratch=scratch), prepare, settings)
            write_lists(processed, common_with)
            return True
        adata: AnnData = build(prepare)
        check(adata, str(processed))
        adata.uns["provenance"] = _record(adata, prepare, settings)
        with write_beside(processed) as temporary:
            adata.write_h5ad(temporary)
        write_lists(processed, common_with)
    return True


def _write_in_chunks(processed: Path, made: StreamedAnnData, prepare: dict[str, Any], settings: str) -> None:
    """Write a prepared matrix a block of samples at a time."""
    from tqdm import tqdm

    tables, where = made.tables, str(processed)
    check_tables(tables, where)
    uns = {**tables.uns, "provenance": _record(tables, prepare, settings)}
    unit = tables.uns["expression"]["unit"]
    step = max(1, CHUNK_VALUES // tables.n_vars)
    with write_expression(processed, tables.obs, tables.var, unit=unit, uns=uns) as file:
        starts = range(0, tables.n_obs, step)
        for start in tqdm(starts, desc="writing", unit=" blocks", delay=2, leave=False, disable=None):
            rows = slice(start, min(start + step, tables.n_obs))
            block = made.x_ng[rows]
            check_values(block, tables.obs_names[rows], tables.var_names, where)
            file.write(rows, X=block)


def _record(adata: AnnData, prepare: dict[str, Any], settings: str) -> dict[str, str]:
    """Return ``uns["provenance"]``: texts, because HDF5 has no null and no empty list."""
    record = dict(adata.uns.get("provenance") or provenance.describe())
    duplicates = record.pop(DUPLICATES, None)
    if duplicates is None and adata.X is not None:
        duplicates = to_json(search(adata.X, adata.obs_names))
    text = json.dumps({**record, "config": prepare})
    made = {"settings": settings, "prepare_version": str(PREPARE_VERSION), "record": text}
    return made if duplicates is None else {**made, DUPLICATES: duplicates}


def write_made(
    path: Path,
    x_ng: np.ndarray,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    *,
    unit: str,
    record: dict[str, Any],
    obsm: dict[str, np.ndarray],
) -> None:
    """Write computed expression, such as synthetic samples, as a processed AnnData.

    Parameters
    ----------
    path
        The .h5ad.
    x_ng, obs, var
        Expression (n, g), samples and genes.
    unit
        Unit of the expression, on a log scale.
    record
        Provenance, for ``uns["provenance"]``.
    obsm
        Arrays with one row per sample, by name.
    """
    import anndata

    adata = anndata.AnnData(x_ng, obs=obs, var=var, obsm=obsm, uns={"expression": {"unit": unit}})
    text = json.dumps(provenance.describe(**record))
    adata.uns["provenance"] = {"settings": provenance.fingerprint(record), "record": text}
    check(adata, str(path))
    with write_beside(path) as temporary:
        adata.write_h5ad(temporary)


def read(path: Path | str) -> AnnData:
    """Read and check a processed AnnData, .h5ad or .zarr, X as float32 in memory.

    Raises
    ------
    DataError
        It cannot be read, or `check` refuses it.
    """
    import anndata
    from scipy.sparse import issparse

    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist")
    try:
        adata = anndata.read_zarr(path) if path.suffix == ".zarr" else anndata.read_h5ad(path)
    except Exception as error:
        raise DataError(f"{path} is not a readable AnnData: {error}") from error
    if adata.X is None:
        raise DataError(f"{path} has no matrix X")
    if issparse(adata.X):
        adata.X = adata.X.toarray()
    adata.X = np.ascontiguousarray(adata.X, dtype=np.float32)
    check(adata, str(path))
    return adata


CHUNK_VALUES = 1 << 24
HIGHEST = 100.0  # maximum of any log expression
WAY_OUT = "run `python -m gtex_vae.preprocess data=file data.path=...` on the raw matrix first"


def check(adata: AnnData, where: str) -> None:
    """Check that an AnnData is samples x genes on a log scale, with donors and tissues.

    Raises
    ------
    DataError
        The message names the file, the problem and the solution.
    """
    check_tables(adata, where)
    check_values(adata.X, adata.obs_names, adata.var_names, where)


def check_tables(adata: AnnData, where: str) -> None:
    """Check the tables of an AnnData, see `check`, but not X."""
    for column in ("donor", "tissue"):
        if column not in adata.obs:
            raise DataError(f"{where}: obs has no column {column!r}; {WAY_OUT}")
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise DataError(f"{where} is empty: {adata.n_obs} samples x {adata.n_vars} genes")
    for name, index in (("sample", adata.obs_names), ("gene", adata.var_names)):
        if not index.is_unique:
            raise DataError(f"{where}: {name} id {index[index.duplicated()][0]} occurs twice; {WAY_OUT}")


def check_values(x_ng: np.ndarray, samples: Sequence[str], genes: Sequence[str], where: str) -> None:
    """Check that values (n, g) are finite and on a log scale, see `check`."""
    low, high = float(np.min(x_ng)), float(np.max(x_ng))
    if not np.isfinite(low + high):
        row, gene = (int(i[0]) for i in np.nonzero(~np.isfinite(x_ng)))
        raise DataError(f"{where}: {x_ng[row, gene]} at sample {samples[row]}, gene {genes[gene]}; {WAY_OUT}")
    if high > HIGHEST:
        raise DataError(f"{where}: values up to {high:.4g} are not on a log2 scale; {WAY_OUT}")


def choose(path: str | None, processed: str) -> Path:
    """Return the file to train from: ``path`` if `make_processed` wrote it, else ``processed``."""
    is_processed = path is not None and Path(path).is_file() and stored_fingerprint(Path(path)) is not None
    return Path(path) if path is not None and is_processed else Path(processed)


def describe(path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return provenance and samples of a processed file, without reading the matrix.

    Raises
    ------
    DataError
        The file does not exist or was not written by this package.
    """
    import h5py
    from anndata.io import read_elem

    try:
        with h5py.File(path) as file:
            return json.loads(file["uns/provenance/record"].asstr()[()]), read_elem(file["obs"])
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path} has no record of how it was made: {error}") from error
