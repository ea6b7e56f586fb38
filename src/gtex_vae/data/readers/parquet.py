"""Parquet tables in either orientation.

Shapes: n samples, g genes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from gtex_vae.data.readers.column_names import describes_genes, describes_samples
from gtex_vae.data.readers.matrix import KeepGene, RawMatrix, Source, check_sample_ids, check_values
from gtex_vae.data.readers.orientation import find_orientation
from gtex_vae.data.readers.registry import ReadOptions
from gtex_vae.errors import DataError
from gtex_vae.provenance import sha256

_GENE_NAME = ("gene_name", "gene_symbol", "symbol", "description", "name", "gene")

_COLUMNS = 256
_ROWS = 1024


def read(path: Path, options: ReadOptions) -> RawMatrix:
    """Read a parquet table: one column of ids (or a pandas index), further text columns, numeric columns.

    Parameters
    ----------
    path
        The file.
    options
        ``keep_gene`` and ``orientation`` apply; where genes are columns, unwanted ones are not read.

    Returns
    -------
    RawMatrix
        Its unit is not set.

    Raises
    ------
    DataError
        The file is damaged, has no id column, has missing or infinite values, or repeats samples.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            id_column, text, numeric = _find_columns(path, file)
            ids = [str(value) for value in file.read(columns=[id_column]).column(0).to_pylist()]
            if not ids:
                raise DataError(f"{path}: the parquet table has no rows; fetch it again")
            corner = "" if id_column.startswith("__index") else id_column
            orientation = find_orientation(path, ids, numeric, corner, options.orientation)
            table = file.read(columns=text).to_pandas(ignore_metadata=True) if text else None
            if orientation == "genes_in_rows":
                x_ng, samples, genes, names, table = _genes_in_rows(
                    file, ids, numeric, table, options.keep_gene
                )
            else:
                samples, names = ids, None
                keep_gene = options.keep_gene
                genes = [gene for gene in numeric if keep_gene is None or keep_gene(gene, None)]
                x_ng = _samples_in_rows(file, genes, len(ids))
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: the parquet file is damaged ({str(error).splitlines()[0]}); fetch it again"
        ) from error

    check_sample_ids(path, samples, "column" if orientation == "genes_in_rows" else "row")
    n_found = (len(ids), len(numeric))
    if table is not None:
        table.index = genes if orientation == "genes_in_rows" else samples
    return RawMatrix(
        x_ng=x_ng,
        sample_ids=samples,
        gene_ids=genes,
        gene_names=names,
        source=Source(
            path=path,
            format="parquet",
            orientation=orientation,
            found_shape=n_found if orientation == "genes_in_rows" else n_found[::-1],
            sha256=sha256(path),
        ),
        obs=table if orientation == "samples_in_rows" else None,
        var=table if orientation == "genes_in_rows" else None,
        first_negative=check_values(path, x_ng, samples, genes),
    )


def _find_columns(path: Path, file: Any) -> tuple[str, list[str], list[str]]:
    """Find the column of ids, the other columns that describe rows, and the numeric columns of expression."""
    import pyarrow as pa

    types, schema = pa.types, file.schema_arrow
    if len(set(schema.names)) < len(schema.names):
        raise DataError(f"{path}: the parquet table has columns of the same name; rename them")
    index = [
        name for name in (schema.pandas_metadata or {}).get("index_columns", []) if isinstance(name, str)
    ]
    numeric = [
        field.name
        for field in schema
        if (types.is_integer(field.type) or types.is_floating(field.type) or types.is_decimal(field.type))
        and field.name not in index
        and not (describes_genes(field.name) or describes_samples(field.name))
    ]
    text = [
        field.name
        for field in schema
        if types.is_string(field.type)
        or types.is_large_string(field.type)
        or types.is_string_view(field.type)
        or types.is_dictionary(field.type)
    ]
    annotation = [name for name in schema.names if describes_genes(name) or describes_samples(name)]
    if not numeric:
        raise DataError(f"{path}: the parquet table has no numeric columns, so no expression values")
    id_column = next((name for name in index if name in schema.names), None) or next(iter(text), None)
    if id_column is None:
        raise DataError(
            f"{path}: the parquet table has {len(numeric):,} numeric columns but no text column of ids; add one"
        )
    return id_column, [name for name in dict.fromkeys([*text, *annotation]) if name != id_column], numeric


def _genes_in_rows(
    file: Any, ids: list[str], samples: list[str], table: Any, keep_gene: KeepGene | None
) -> tuple[np.ndarray, list[str], list[str], list[str] | None, Any]:
    """Read a table whose columns are samples; each becomes one row of the result."""
    by_name = {str(name).lower(): name for name in ([] if table is None else table.columns)}
    name_at = next((by_name[name] for name in _GENE_NAME if name in by_name), None)
    names = None if name_at is None else [str(name) for name in table[name_at]]
    keep = np.array(
        [keep_gene is None or keep_gene(ids[at], names[at] if names else None) for at in range(len(ids))],
        bool,
    )
    x_ng = np.empty((len(samples), int(keep.sum())), np.float32)
    for start in tqdm(
        range(0, len(samples), _COLUMNS), desc="reading parquet", delay=2, leave=False, disable=None
    ):
        batch = file.read(columns=samples[start : start + _COLUMNS])
        for at, sample in enumerate(samples[start : start + _COLUMNS], start=start):
            x_ng[at] = _float32(batch.column(sample))[keep]
    genes = [gene for gene, wanted in zip(ids, keep.tolist(), strict=True) if wanted]
    if names is not None:
        names = [name for name, wanted in zip(names, keep.tolist(), strict=True) if wanted]
    return x_ng, samples, genes, names, None if table is None else table[keep]


def _samples_in_rows(file: Any, genes: list[str], n: int) -> np.ndarray:
    """Read a table whose columns are genes, batch by batch to limit the memory."""
    x_ng = np.empty((n, len(genes)), np.float32)
    start = 0
    bar = tqdm(total=n, desc="reading parquet", unit=" samples", delay=2, leave=False, disable=None)
    with bar:
        for batch in file.iter_batches(batch_size=_ROWS, columns=genes):
            for at, gene in enumerate(genes):
                x_ng[start : start + batch.num_rows, at] = _float32(batch.column(gene))
            start += batch.num_rows
            bar.update(batch.num_rows)
    return x_ng


def _float32(column: Any) -> np.ndarray:
    """Convert a column; nulls become NaN, which the check of values refuses."""
    import pyarrow as pa

    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float32)
