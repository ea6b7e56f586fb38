"""The result of every reader, and the checks that all formats share.

Shapes: n samples, g genes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gtex_vae.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse as sp

KeepGene = Callable[[str, str | None], bool]
Orientation = Literal["genes_in_rows", "samples_in_rows"]

_BLOCK_VALUES = 1 << 24


@dataclass(frozen=True)
class Source:
    """Facts about the file of a matrix, for the provenance record.

    Parameters
    ----------
    path
        The file or, for zarr, the folder.
    format
        ``gct 1.2``, ``gct 1.3``, ``delimited``, ``parquet``, ``h5ad`` or ``zarr``.
    compression
        ``gzip``, ``zstd`` or None.
    sha256
        Hex digest of the file as stored; see `gtex_vae.provenance.sha256` for a zarr folder.
    orientation
        Axis of the genes in the file.
    declared_shape
        Genes x samples that a GCT header declares; None for other formats.
    found_shape
        Genes x samples in the file, including genes that were skipped.
    """

    path: Path
    format: str
    orientation: Orientation
    found_shape: tuple[int, int]
    compression: str | None = None
    sha256: str | None = None
    declared_shape: tuple[int, int] | None = None


@dataclass(frozen=True)
class RawMatrix:
    """An expression matrix as published: ids and values untouched, samples in rows.

    Parameters
    ----------
    x_ng
        Values, float32, shape (n, g): a C-contiguous array, or CSR where the source is sparse.
    sample_ids, gene_ids
        As in the file. Samples are unique. Genes may repeat: `gtex_vae.data.genes` resolves duplicates.
    gene_names
        Symbols of the genes, None where the file has none.
    unit
        One of :data:`gtex_vae.data.units.UNITS`.
    unit_reason
        Evidence for the unit.
    source
        The file.
    obs, var
        Tables of the samples and of the genes, in the order of the matrix, where the file has them.
    first_negative
        Place of the first negative value, for the message that refuses it, or None.
    """

    x_ng: np.ndarray | sp.csr_matrix
    sample_ids: list[str]
    gene_ids: list[str]
    gene_names: list[str] | None
    source: Source
    unit: str = ""
    unit_reason: str = ""
    obs: pd.DataFrame | None = None
    var: pd.DataFrame | None = None
    first_negative: str | None = field(default=None, repr=False)

    def with_unit(self, unit: str, reason: str) -> RawMatrix:
        """Return the same matrix with another unit."""
        return replace(self, unit=unit, unit_reason=reason)


def check_sample_ids(path: Path, sample_ids: Sequence[str], place: str) -> None:
    """Refuse empty and repeated sample ids.

    Parameters
    ----------
    path
        The file, for the message.
    sample_ids
        In the order of the file.
    place
        Axis that the position counts along, ``column`` or ``row``.

    Raises
    ------
    DataError
        An id is empty or repeated; names the first one and its positions.
    """
    if not sample_ids:
        raise DataError(f"{path}: contains no samples; at least one is needed")
    seen: dict[str, int] = {}
    for position, sample in enumerate(sample_ids, start=1):
        if not sample.strip():
            raise DataError(
                f"{path}: sample {place} {position:,} has an empty name; every sample needs an id"
            )
        if sample in seen:
            raise DataError(
                f"{path}: sample {sample!r} occurs twice, as sample {place} {seen[sample]:,} and {position:,}; "
                "rename or remove one"
            )
        seen[sample] = position


def check_values(path: Path, x_ng: Any, sample_ids: Sequence[str], gene_ids: Sequence[str]) -> str | None:
    """Refuse values that are not finite and find the first negative one.

    Parameters
    ----------
    path
        The file, for the message.
    x_ng
        Array or CSR matrix, shape (n, g).
    sample_ids, gene_ids
        Names of its rows and columns.

    Returns
    -------
    str or None
        Place of the first negative value.

    Raises
    ------
    DataError
        A value is missing or infinite; names its sample and gene.
    """
    negative = None
    blocks: Iterable[tuple[int, np.ndarray]]
    if isinstance(x_ng, np.ndarray):
        step = max(1, _BLOCK_VALUES // max(1, x_ng.shape[1]))
        blocks = ((start, x_ng[start : start + step]) for start in range(0, x_ng.shape[0], step))
    else:
        blocks = [(0, x_ng.data[np.newaxis])]

    def place(row: int, column: int) -> str:
        if not isinstance(x_ng, np.ndarray):
            row = int(np.searchsorted(x_ng.indptr, column, side="right")) - 1
            column = int(x_ng.indices[column])
        return f"sample {sample_ids[row]!r}, gene {gene_ids[column]!r}"

    for start, block in blocks:
        if not block.size:
            continue
        lowest = block.min()
        if not np.isfinite(lowest) or not np.isfinite(block.max()):
            row, column = np.argwhere(~np.isfinite(block))[0]
            value = block[row, column]
            what = "a missing value (NaN)" if np.isnan(value) else f"an infinite value ({value})"
            raise DataError(
                f"{path}: {what} at {place(start + int(row), int(column))}; remove the gene or correct the file"
            )
        if lowest < 0 and negative is None:
            row, column = np.argwhere(block < 0)[0]
            negative = f"{place(start + int(row), int(column))}: {block[row, column]:g}"
    return negative
