"""Files of a pseudobulk folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from gtex_vae.data.single_cell.pseudobulk import Pseudobulk, make_pseudobulk
from gtex_vae.errors import DataError
from gtex_vae.files import write_beside

if TYPE_CHECKING:
    from anndata import AnnData

FILES = ("pseudobulk.h5ad", "celltype_profiles.h5ad", "proportions.csv")


def holds_pseudobulk(folder: Path) -> bool:
    """Return True if a folder has the files of `pseudobulk_folder`."""
    return all((folder / name).exists() for name in FILES)


def pseudobulk_folder(folder: Path, source: AnnData | Path, **settings: Any) -> Path:
    """Write pseudobulk of single cells into a folder, unless the folder has it already.

    Parameters
    ----------
    folder
        Folder of ``pseudobulk.h5ad``, ``celltype_profiles.h5ad`` and ``proportions.csv``.
    source
        Single cells, or a folder written by ``gtex_vae.pseudobulk``, which is returned unchanged.
    **settings
        See `gtex_vae.data.single_cell.pseudobulk.make_pseudobulk`.

    Returns
    -------
    Path
        The folder with the three files.
    """
    if isinstance(source, Path) and holds_pseudobulk(source):
        return source
    if not holds_pseudobulk(folder):
        write_pseudobulk(folder, make_pseudobulk(source, **settings))
    return folder


def read_pseudobulk(folder: Path) -> Pseudobulk:
    """Read the three files of a pseudobulk folder.

    Raises
    ------
    DataError
        A file cannot be read.
    """
    import anndata

    try:
        donors, profiles = (anndata.read_h5ad(folder / name) for name in FILES[:2])
        proportions = pd.read_csv(folder / FILES[2], index_col=0)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} does not contain readable pseudobulk: {error}") from error
    return Pseudobulk(donors, profiles, proportions, {})


def write_pseudobulk(folder: Path, made: Pseudobulk) -> None:
    """Write the three files that `read_pseudobulk` reads."""
    for name, adata in zip(FILES[:2], (made.donors, made.profiles), strict=True):
        with write_beside(folder / name) as temporary:
            adata.write_h5ad(temporary)
    with write_beside(folder / FILES[2]) as temporary:
        made.proportions.to_csv(temporary)
