"""Variant of `gtex_vae.data.preprocess.prepare` for a matrix that does not fit into memory.

Shapes: n samples, c columns of the input, g genes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from tqdm import tqdm

from gtex_vae.data.genes.columns import Columns
from gtex_vae.data.readers.backed import block, open_matrix
from gtex_vae.data.readers.matrix import KeepGene, RawMatrix
from gtex_vae.data.readers.text.spill import Spilled, SpilledSamples
from gtex_vae.data.rows import take_columns
from gtex_vae.data.units import check_stated_unit, log_offset, to_log2_tpm
from gtex_vae.errors import DataError

BLOCK_VALUES = 1 << 23  # several arrays of this size are in memory at once


@contextmanager
def open_wanted(
    path: Path | str, *, keep_gene: KeepGene | None, unit: str | None, scratch: Path, **how: Any
) -> Iterator[RawMatrix]:
    """Open a matrix with the selected genes and its unit, like `read_matrix`, but read by rows.

    Parameters
    ----------
    path, keep_gene, unit, scratch
        As for `gtex_vae.data.readers.read.read_matrix`.
    **how
        Its other arguments.

    Raises
    ------
    DataError, ConfigError
        As for `read_matrix`; values are checked when they are read.
    """
    with open_matrix(path, keep_gene=keep_gene, unit=unit, scratch=scratch, **how) as matrix:
        names = matrix.gene_names or [None] * len(matrix.gene_ids)  # type: ignore[list-item]
        wanted = [
            at
            for at, (gene, name) in enumerate(zip(matrix.gene_ids, names, strict=True))
            if keep_gene is None or keep_gene(gene, name)
        ]
        if not wanted:
            raise DataError(
                f"{path}: the gene filter keeps no gene; compare the ids in data.prepare.gene_list with those of the file"
            )
        matrix = replace(
            matrix,
            x_ng=take_columns(matrix.x_ng, np.array(wanted)),
            gene_ids=[matrix.gene_ids[at] for at in wanted],
            gene_names=None if matrix.gene_names is None else [matrix.gene_names[at] for at in wanted],
            var=None,
        )
        yield replace(matrix, unit=check_stated_unit(Path(path), matrix.unit, None))


def convert_in_chunks(
    matrix: RawMatrix, columns: Columns, length_g: npt.NDArray[Any] | None, scratch: Path
) -> tuple[Spilled, str]:
    """Convert a matrix to one column per gene on the log2 scale, a block of samples at a time.

    Parameters
    ----------
    matrix
        Result of `open_wanted`.
    columns
        Columns of each gene.
    length_g
        Gene lengths for counts; see `gtex_vae.data.units.to_log2_tpm`.
    scratch
        Folder for the result.

    Returns
    -------
    x_ng : Spilled
        Samples x genes on disk.
    unit : str
        Its unit.
    """
    n, c = matrix.x_ng.shape
    collected = SpilledSamples(len(columns.source_g), scratch)
    unit = ""
    step = max(1, BLOCK_VALUES // max(c, 1))
    for start in tqdm(
        range(0, n, step), desc="converting", unit=" blocks", delay=2, leave=False, disable=None
    ):
        part = block(matrix, start, min(start + step, n))
        check_stated_unit(matrix.source.path, matrix.unit, part.first_negative)
        taken = columns.take(part.x_ng, log_offset(matrix.unit))
        x_ng, unit = to_log2_tpm(taken, matrix.unit, length_g, path=matrix.source.path)
        collected.write(x_ng.toarray() if sp.issparse(x_ng) else x_ng)
    return collected.result(), unit
