"""Batches by index from a matrix that is already in memory.

Shapes: ``n`` samples, ``g`` genes, ``f`` features (genes, or their coordinates in a basis).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gtex_vae.functional.masking import step_seed


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
    """Gather whole batches from a matrix in memory or on the device, with no worker processes.

    One indexing call per batch replaces a Python call per sample. The order of epoch e is a function of
    ``(seed, e)``, and the loader remembers nothing: where training stands is asked for at the start of each epoch, so
    that a restored run goes on exactly where it was, between two epochs or inside one.

    Parameters
    ----------
    x_nf
        The matrix, on any device.
    rows
        Which rows belong to this split, int64.
    batch_size
        Samples per batch and process.
    shuffle
        Draw a new order each epoch and leave out the incomplete last batch (a batch of one has no batch statistics);
        otherwise go through all rows in order.
    seed
        Seed of the orders.
    progress
        Tells how many epochs, and how many batches of the present one, are over.
    rank, world_size
        This process and the number of processes; each takes every ``world_size``-th of the common order.
    per_row
        Further values of every row of the matrix, by field of `Batch`; on the device of the matrix.
    pin
        Gather into page-locked memory, from which a GPU takes a batch while it works on the one before.

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
        # of the process that has most: processes that share parameters must all have as many batches
        return -(-len(self.rows[:: self.world_size]) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield what is left of the epoch."""
        epoch, done = self.progress() if self.shuffle else (0, 0)
        order = self._order(epoch).to(self.x_nf.device)
        if self.shuffle or self.world_size == 1:
            parts = order.split(self.batch_size)
        else:  # even ones, so that a process with fewer rows has as many batches, and none of them empty
            parts = order.tensor_split(len(self))
        for row_n in parts[done : len(self)]:
            values = {name: value[row_n] for name, value in self.per_row.items()}
            yield Batch(self._gather(row_n), row_n, **values)

    def _gather(self, row_n: Tensor) -> Tensor:
        if not self.pin:
            return self.x_nf.index_select(0, row_n)
        # torch hands page-locked memory out again once the copy from it is over
        x_nf = torch.empty(len(row_n), self.x_nf.shape[1], pin_memory=True)
        return torch.index_select(self.x_nf, 0, row_n, out=x_nf)

    def _order(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return self.rows[self.rank :: self.world_size]
        generator = torch.Generator().manual_seed(step_seed(self.seed, epoch))
        order = self.rows[torch.randperm(len(self.rows), generator=generator)]
        return order[self.rank :: self.world_size]
