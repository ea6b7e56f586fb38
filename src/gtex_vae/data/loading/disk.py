"""Batches from a matrix on disk, shuffled through a buffer in memory.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from gtex_vae.data.loading.disk_matrix import GIB, DiskMatrix
from gtex_vae.data.loading.memory import Batch
from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import ConfigError
from gtex_vae.functional.seeds import step_seed

BUFFER_SHARE = 4  # a quarter of the memory for each of the two buffers
IN_ORDER_BATCHES = 4  # in a buffer without shuffling


class DiskLoader:
    r"""Loader that reads chunks of consecutive samples in random order into a buffer and shuffles the buffer.

    While batches are taken from one buffer, a thread reads and standardizes the next. Chunks of the training samples are
    put in random order, the sequence is divided into buffers of m samples (a multiple of the batch), and each buffer is
    shuffled. Unlike in a full shuffle, two samples of a chunk are always in the same buffer or in two adjacent ones; the
    larger the memory, the more chunks share a buffer. As in `gtex_vae.data.loading.memory.BatchLoader`, the order of
    epoch e is a function of ``(seed, e)`` and the loader has no state, so that a restored run resumes exactly.

    Parameters
    ----------
    matrix
        The matrix on disk.
    rows
        Rows of this split, increasing.
    scaler
        Fitted standardizer.
    memory_gib
        Memory in GiB; each of the two buffers takes a quarter of it.
    batch_size, shuffle, seed, progress, rank, world_size, per_row
        As for `gtex_vae.data.loading.memory.BatchLoader`.

    Raises
    ------
    ConfigError
        A buffer would contain fewer than two batches.
    """

    def __init__(
        self,
        matrix: DiskMatrix,
        rows: np.ndarray,
        scaler: Standardizer,
        *,
        memory_gib: float,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        progress: Callable[[], tuple[int, int]] = lambda: (0, 0),
        rank: int = 0,
        world_size: int = 1,
        per_row: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.per_row = per_row or {}
        self.matrix, self.rows, self.scaler = matrix, rows, scaler
        self.batch_size, self.shuffle, self.seed, self.progress = batch_size, shuffle, seed, progress
        self.rank, self.world_size = rank, world_size
        batches = batches_in_buffer(matrix, memory_gib, batch_size)
        per_epoch = -(-self._per_process // batch_size)
        self._batches = max(1, min(batches if shuffle else IN_ORDER_BATCHES, per_epoch))
        self._buffers: list[np.ndarray] = []

    @property
    def _per_process(self) -> int:
        """Samples of this process."""
        if self.shuffle:
            return len(self.rows) // self.world_size
        return len(self.rows[self.rank :: self.world_size])

    def __len__(self) -> int:
        """Batches per epoch in this process."""
        if self.shuffle:
            return max(1, self._per_process // self.batch_size)
        return -(-self._per_process // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the remaining batches of the epoch."""
        epoch, done = self.progress() if self.shuffle else (0, 0)
        order = self._order(epoch)
        m = self._batches * self.batch_size
        starts = range(done // self._batches * m, len(order), m)
        if not self._buffers:
            self._buffers = [np.empty((m, self.matrix.shape[1]), np.float32) for _ in range(2)]
        with ThreadPoolExecutor(1, "read") as reader:
            jobs = [(order[start : start + m], self._buffers[at % 2]) for at, start in enumerate(starts)]
            coming = reader.submit(self._fill, *jobs[0]) if jobs else None
            skip = done % self._batches
            for at, (row_m, buffer_mg) in enumerate(jobs):
                assert coming is not None
                place_m = coming.result()
                if at + 1 < len(jobs):
                    coming = reader.submit(self._fill, *jobs[at + 1])
                x_mg = torch.from_numpy(buffer_mg)
                for start in range(skip * self.batch_size, len(row_m), self.batch_size):
                    cut = slice(start, start + self.batch_size)
                    row_n = torch.from_numpy(row_m[cut])
                    values = {name: value[row_n] for name, value in self.per_row.items()}
                    yield Batch(x_mg.index_select(0, place_m[cut]), row_n, **values)
                skip = 0

    def _fill(self, row_m: np.ndarray, buffer_mg: np.ndarray) -> torch.Tensor:
        """Read rows into a buffer in the order of the file, standardize them, and return the position of each row."""
        in_file = np.argsort(row_m)
        x_mg = buffer_mg[: len(row_m)]
        self.matrix.read(row_m[in_file], x_mg)
        self.scaler.apply_(x_mg)
        place_m = np.empty(len(row_m), np.int64)
        place_m[in_file] = np.arange(len(row_m))
        return torch.from_numpy(place_m)

    def _order(self, epoch: int) -> np.ndarray:
        """Return the rows of this process in the order of an epoch."""
        if not self.shuffle:
            return self.rows[self.rank :: self.world_size]
        rng = np.random.default_rng(step_seed(self.seed, epoch))
        chunks, chunk_n = np.unique(self.rows // self.matrix.rows_per_read, return_inverse=True)
        order = self.rows[np.argsort(rng.permutation(len(chunks))[chunk_n], kind="stable")]
        # each process gets consecutive chunks, which it reads whole; the incomplete last batch is dropped
        per_process = self._per_process
        first = self.rank * per_process
        order = order[first : first + min(per_process, len(self) * self.batch_size)]
        m = self._batches * self.batch_size
        for start in range(0, len(order), m):
            rng.shuffle(order[start : start + m])
        return order


def batches_in_buffer(matrix: DiskMatrix, memory_gib: float, batch_size: int) -> int:
    """Return the number of batches in a buffer of a `DiskLoader`.

    Raises
    ------
    ConfigError
        It is less than two.
    """
    batch_gib = 4 * batch_size * matrix.shape[1] / GIB
    batches = int(memory_gib / BUFFER_SHARE / batch_gib)
    if batches < 2:
        raise ConfigError(
            f"data.memory_gib={memory_gib:g} is too little to train from disk with data.batch_size={batch_size}: "
            f"{matrix.shape[1]:,} genes require data.memory_gib={1.05 * 2 * BUFFER_SHARE * batch_gib:.2g} or more"
        )
    return batches
