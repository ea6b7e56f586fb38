"""Standardized expression of all samples, wherever it is: in memory, on the GPU or on disk.

Shapes: ``n`` samples, ``g`` genes, ``f`` coordinates in a basis.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from gtex_vae.data.loading.disk import DiskLoader, batches_in_buffer
from gtex_vae.data.loading.disk_matrix import GIB, DiskMatrix, open_larger_than, subset
from gtex_vae.data.loading.memory import BatchLoader
from gtex_vae.data.preprocess import processed as processed_data
from gtex_vae.data.rows import FilledRows, RowMatrix, blocks_of
from gtex_vae.data.standardize import Standardizer
from gtex_vae.functional.basis import coordinates

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)

BLOCK = 256  # samples at a time
COORDINATES_SHARE = 0.25  # of the memory


class StandardizedMatrix:
    """X of a processed AnnData, standardized on demand or in place.

    Parameters
    ----------
    path
        The processed file.
    memory_gib
        Memory for expression, in GiB. A larger matrix stays on disk. ``None``: any size in memory.

    Attributes
    ----------
    adata
        Tables of the file. X is standardized in place by `fit`; it is absent if the matrix is on disk.
    x_ng
        The matrix in memory or on the GPU; None if it is on disk.
    """

    def __init__(self, path: Path, memory_gib: float | None) -> None:
        self.path, self.memory_gib = path, memory_gib
        self.disk = open_larger_than(path, memory_gib)
        self.adata: AnnData = processed_data.read(path) if self.disk is None else self.disk.adata
        self.x_ng: Tensor | None = None
        self._file: DiskMatrix | None = None  # of a matrix released by `rotate`
        self._coordinates: Tensor | None = None
        self._per_row: dict[str, Tensor] = {}

    def fit(self, scaler: Standardizer, train: np.ndarray, others: np.ndarray, batch_size: int) -> None:
        """Fit the scaler to the training rows and standardize; check the other rows of a matrix on disk."""
        self.scaler = scaler
        if self.disk is None:
            scaler.fit(self.adata.X, train)
            self.x_ng = torch.from_numpy(scaler.apply_(self.adata.X))
            return
        assert self.memory_gib is not None
        log.info(
            "%s stays on disk: it takes %.3g GiB, data.memory_gib is %.3g; PCA, figures and metrics use at most %d "
            "samples of a split",
            self.path, self.disk.nbytes / GIB, self.memory_gib, len(self.kept(train)),
        )  # fmt: skip
        # Refuse too little memory before the pass over the file.
        batches_in_buffer(self.disk, self.memory_gib, batch_size)
        scaler.fit(self.disk, train)
        self.disk.check(others)

    def kept(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows that fit into memory at once: all, or a subset if X is on disk."""
        if self.disk is None or self.memory_gib is None:
            return rows
        return subset(rows, self.adata.n_vars, self.memory_gib)

    def read(self, rows: np.ndarray) -> Tensor:
        """Return rows, which must increase, as a new tensor (n, g)."""
        out_ng = np.empty((len(rows), self.adata.n_vars), np.float32)
        self._fill(rows, out_ng)
        return torch.from_numpy(out_ng)

    def lazily(self, rows: np.ndarray) -> RowMatrix:
        """Return rows for reading in blocks, without a copy of all; from disk, where each pass is slow, in memory."""
        if self.disk is not None:
            return self.read(rows).numpy()
        return FilledRows((len(rows), self.adata.n_vars), lambda part, out: self._fill(rows[part], out))

    def _fill(self, rows: np.ndarray, out_ng: np.ndarray) -> None:
        """Write standardized rows, which must increase, into an array."""
        matrix = self.disk or self._file
        if matrix is not None:
            matrix.read(rows, out_ng)
            self.scaler.apply_(out_ng)
            return
        assert self.x_ng is not None, "fit() first"
        out, row_n = torch.from_numpy(out_ng), torch.from_numpy(rows).to(self.x_ng.device)
        if self.x_ng.is_cpu:
            torch.index_select(self.x_ng, 0, row_n, out=out)
        else:
            out.copy_(self.x_ng[row_n])

    def add_to_batches(self, **per_row: Tensor) -> None:
        """Let batches carry further values of their samples.

        Parameters
        ----------
        per_row
            Values of all samples, in the order of ``adata``, by field of `Batch`.
        """
        self._per_row |= per_row

    def rotate(self, basis_fg: Tensor) -> None:
        """Compute `coordinates` of all samples in an orthonormal basis, for batches of coordinates instead of genes.

        Parameters
        ----------
        basis_fg
            Orthonormal rows, shape (f, g).

        Notes
        -----
        For a matrix on disk this takes one pass, and only if a quarter of ``memory_gib`` holds the coordinates; else
        batches still contain genes, which the module projects. A matrix in memory is released, since batches no longer
        need it, and read again from its file when asked for. A compressed file would take too long; then the matrix
        stays in memory.
        """
        n, f = len(self.adata), len(basis_fg)
        most = math.inf if self.disk is None else (self.memory_gib or 0.0) * GIB * COORDINATES_SHARE
        if 4 * n * f > most:
            log.info("%d coordinates of %d samples exceed data.memory_gib: batches contain genes", f, n)
            return
        y_nf, outside_n = torch.empty(n, f), torch.empty(n)
        blocks = blocks_of(FilledRows((n, self.adata.n_vars), self._fill), BLOCK)
        for rows, x_ng in tqdm(
            blocks, desc="projecting", delay=2, leave=False, disable=None, total=-(-n // BLOCK)
        ):
            y_nf[rows], outside_n[rows] = coordinates(torch.from_numpy(x_ng), basis_fg)
        self._coordinates = y_nf
        self.add_to_batches(outside_n=outside_n)
        if self.disk is None:
            self._release()

    def _release(self) -> None:
        """Free the matrix in memory if its file can be read again quickly."""
        matrix = DiskMatrix(self.path)
        # the file may have been replaced since it was read
        same = matrix.adata.obs_names.equals(self.adata.obs_names)
        same &= matrix.adata.var_names.equals(self.adata.var_names)
        if matrix.contiguous and same:
            self._file, self.x_ng, self.adata.X = matrix, None, None

    def loader(self, rows: np.ndarray, device: torch.device, **settings: Any) -> BatchLoader | DiskLoader:
        """Return batches of rows, of genes or of coordinates, on the GPU if there is room.

        Parameters
        ----------
        rows
            Rows of the split.
        device
            Of the training.
        **settings
            See `BatchLoader`.
        """
        row_n = torch.from_numpy(rows)
        if self._coordinates is not None:
            x_nf = self._coordinates = _resident(device, self._coordinates)
        elif self.disk is not None:
            assert self.memory_gib is not None
            return DiskLoader(
                self.disk, rows, self.scaler, memory_gib=self.memory_gib, per_row=self._per_row, **settings
            )
        else:
            assert self.x_ng is not None, "fit() first"
            x_nf = self.x_ng = _resident(device, self.x_ng)
        self._per_row = {name: value.to(x_nf.device) for name, value in self._per_row.items()}
        pin = device.type == "cuda" and not x_nf.is_cuda
        return BatchLoader(x_nf, row_n, per_row=self._per_row, pin=pin, **settings)


def _resident(device: torch.device, x_nf: Tensor) -> Tensor:
    """Move a matrix to the GPU if it takes at most half of the free memory."""
    if device.type != "cuda" or x_nf.is_cuda:
        return x_nf
    free, _ = torch.cuda.mem_get_info(device)
    return x_nf.to(device) if x_nf.nbytes <= free // 2 else x_nf
