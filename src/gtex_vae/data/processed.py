"""The processed AnnData of every later stage: made once, checked when read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from gtex_vae import provenance
from gtex_vae.config import build
from gtex_vae.data.gene_lists import write_lists
from gtex_vae.errors import DataError
from gtex_vae.paths import write_beside

if TYPE_CHECKING:
    from anndata import AnnData


def make_processed(
    processed: Path, prepare: dict[str, Any], *, overwrite: bool = False, common_with: Sequence[str] = ()
) -> bool:
    """Make the processed file if there is none, or one that other settings made, and the gene lists beside it.

    Parameters
    ----------
    processed
        Where the AnnData lies, or will.
    prepare
        ``_target_`` and arguments of the function that returns it.
    overwrite
        Make it anew in any case.
    common_with
        Other data sets, for ``common_gene.txt``: see `gtex_vae.data.gene_lists.write_lists`.

    Returns
    -------
    bool
        Whether it was made now.
    """
    settings = provenance.fingerprint({**prepare, "source": _source_state(prepare.get("path"))})
    processed.parent.mkdir(parents=True, exist_ok=True)
    # the jobs of a sweep start together: one makes the file, the others wait for it
    with FileLock(processed.with_name(f".{processed.name}.lock")):
        if processed.exists() and not overwrite and _settings_of(processed) == settings:
            if common_with:
                write_lists(processed, common_with)
            return False
        adata: AnnData = build(prepare)
        record = adata.uns.get("provenance") or provenance.describe()
        # HDF5 has no null and no empty list, and text is read everywhere
        adata.uns["provenance"] = {"settings": settings, "record": json.dumps({**record, "config": prepare})}
        check(adata, str(processed))
        with write_beside(processed) as temporary:
            adata.write_h5ad(temporary)
        write_lists(processed, common_with)
    return True


def read(path: Path | str) -> AnnData:
    """Read and check a processed AnnData, .h5ad or .zarr, X as float32 in memory.

    Raises
    ------
    DataError
        It cannot be read, or is not what `check` asks for.
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


WAY_OUT = "run `python -m gtex_vae.preprocess data=file data.path=...` on the raw matrix first"


def check(adata: AnnData, where: str) -> None:
    """Refuse an AnnData that is not samples x genes on a log scale with a donor for every sample.

    Raises
    ------
    DataError
        Naming the file, what is wrong and the way out.
    """
    check_tables(adata, where)
    check_values(adata.X, lambda row: adata.obs_names[row], adata.var_names, where)


def check_tables(adata: AnnData, where: str) -> None:
    """Refuse an AnnData whose tables lack what training needs, see `check`; X is not looked at."""
    for column in ("donor", "tissue"):
        if column not in adata.obs:
            raise DataError(f"{where}: obs has no column {column!r}; {WAY_OUT}")
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise DataError(f"{where} is empty: {adata.n_obs} samples x {adata.n_vars} genes")
    for name, index in (("sample", adata.obs_names), ("gene", adata.var_names)):
        if not index.is_unique:
            raise DataError(f"{where}: {name} id {index[index.duplicated()][0]} is there twice; {WAY_OUT}")


def check_values(x_ng: np.ndarray, sample: Callable[[int], str], genes: Sequence[str], where: str) -> None:
    """Refuse values (n, g) that are not finite or not on a log scale, see `check`; ``sample`` names a row."""
    low, high = float(np.min(x_ng)), float(np.max(x_ng))
    if not np.isfinite(low + high):
        row, gene = (int(i[0]) for i in np.nonzero(~np.isfinite(x_ng)))
        raise DataError(f"{where}: {x_ng[row, gene]} at sample {sample(row)}, gene {genes[gene]}; {WAY_OUT}")
    if high > 100.0:
        raise DataError(f"{where}: values up to {high:.4g} are not on a log2 scale; {WAY_OUT}")


def choose(path: str | None, processed: str) -> Path:
    """The file to train from: ``path`` itself where `make_processed` wrote it, else ``processed``."""
    is_processed = path is not None and Path(path).is_file() and _settings_of(Path(path)) is not None
    return Path(path) if path is not None and is_processed else Path(processed)


def _source_state(path: str | None) -> list[Any]:
    """Cheap identity of the raw file: resolved path, size and time of change."""
    if path is None or not Path(path).exists():
        return []
    state = Path(path).stat()
    return [str(Path(path).resolve()), state.st_size, state.st_mtime_ns]


def _settings_of(processed: Path) -> str | None:
    """Fingerprint that an existing processed file was made with; ``None`` for a foreign or broken file."""
    import h5py

    try:
        with h5py.File(processed) as file:
            return file["uns/provenance/settings"].asstr()[()]
    except (OSError, KeyError, TypeError, AttributeError):  # not there, or something else by that name
        return None
