"""Batches from a matrix in memory or on the GPU.

Shapes: ``n`` samples, ``g`` genes, ``f`` features (genes, or their coordinates in a basis).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gtex_vae.functional.seeds import step_seed


@dataclass(frozen=True)
class Batch:
    """A batch of samples.

    Attributes
    ----------
    x_nf
        Standardized expression, shape (n, g), or its coordinates in a basis, (n, f); float32.
    row_n
        Rows of the full matrix, shape (n,), int64.
    outside_n
        Squared length of the part outside the span of the basis, shape (n,); only with coordinates.
    c_nk
        Design of the covariates, shape (n, k); only for a conditional model.
    size_n
        Size factors of the libraries, shape (n,); only for a likelihood of counts.
    """

    x_nf: Tensor
    row_n: Tensor
    outside_n: Tensor | None = None
    c_nk: Tensor | None = None
    size_n: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Apply a function to every tensor of the batch."""
        values = {name: value for name, value in vars(self).items() if value is not None}
        return Batch(**{name: function(value) for name, value in values.items()})

    def to(self, device: torch.device) -> Batch:
        """Copy the batch to a device, asynchronously; tensors that are there already are not copied."""
        return self.map(lambda value: value.to(device, non_blocking=True))


class BatchLoader:
    """Loader that gathers whole batches from a matrix in memory or on the device, without worker processes.

    One indexing call per batch replaces a Python call per sample. The order of epoch e is a function of ``(seed, e)``,
    and the loader has no state: it calls ``progress`` at the start of each epoch, so that a restored run resumes exactly,
    between two epochs or within one.

    Parameters
    ----------
    x_nf
        The matrix, on any device.
    rows
        Rows of this split, int64.
    batch_size
        Samples per batch and process.
    shuffle
        Draw a new order each epoch and drop the incomplete last batch (a batch of one has no batch statistics);
        otherwise return all rows in order.
    seed
        Seed of the orders.
    progress
        Returns the number of finished epochs, and of finished batches of the current epoch.
    rank, world_size
        Rank of this process and number of processes; each takes every ``world_size``-th row of the common order.
    per_row
        Further values of every row of the matrix, by field of `Batch`; on the device of the matrix.
    pin
        Gather into page-locked memory, from which a GPU copies a batch while it processes the previous one.

    Examples
    --------
    >>> loader = BatchLoader(torch.arange(10.0)[:, None], torch.arange(10), batch_size=4, shuffle=True, seed=0)
    >>> [len(batch.row_n) for batch in loader]
    [4, 4]
    """

    def __init__(
        self,
        x_nf: Tensor,
        rows: Tensor,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        progress: Callable[[], tuple[int, int]] = lambda: (0, 0),
        rank: int = 0,
        world_size: int = 1,
        per_row: Mapping[str, Tensor] | None = None,
        pin: bool = False,
    ) -> None:
        self.pin = pin
        self.x_nf, self.rows, self.per_row = x_nf, rows, per_row or {}
        self.batch_size = batch_size
        self.shuffle, self.seed, self.progress = shuffle, seed, progress
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        """Batches per epoch in this process."""
        if self.shuffle:
            per_process = len(self.rows) // self.world_size
            return max(1, per_process // self.batch_size)
        # the most of any process: all processes must have the same number of batches
        return -(-len(self.rows[:: self.world_size]) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the remaining batches of the epoch."""
        epoch, done = self.progress() if self.shuffle else (0, 0)
        order = self._order(epoch).to(self.x_nf.device)
        if self.shuffle or self.world_size == 1:
            parts = order.split(self.batch_size)
        else:  # of nearly equal size, so that a process with fewer rows has the same number of batches, none of them empty
            parts = order.tensor_split(len(self))
        for row_n in parts[done : len(self)]:
            values = {name: value[row_n] for name, value in self.per_row.items()}
            yield Batch(self._gather(row_n), row_n, **values)

    def _gather(self, row_n: Tensor) -> Tensor:
        if not self.pin:
            return self.x_nf.index_select(0, row_n)
        # torch reuses page-locked memory after the copy has finished
        x_nf = torch.empty(len(row_n), self.x_nf.shape[1], pin_memory=True)
        return torch.index_select(self.x_nf, 0, row_n, out=x_nf)

    def _order(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return self.rows[self.rank :: self.world_size]
        generator = torch.Generator().manual_seed(step_seed(self.seed, epoch))
        order = self.rows[torch.randperm(len(self.rows), generator=generator)]
        return order[self.rank :: self.world_size]
