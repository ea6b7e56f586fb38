"""Batches by index from a matrix that is already in memory.

Shapes: ``n`` samples, ``g`` genes, ``f`` features (genes, or their coordinates in a basis).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
        With coordinates: the squared length of what lies outside the span of the basis, shape (n,).
    """

    x_nf: Tensor
    row_n: Tensor
    outside_n: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, copied asynchronously where it is not there already."""
        outside_n = None if self.outside_n is None else self.outside_n.to(device, non_blocking=True)
        return Batch(
            self.x_nf.to(device, non_blocking=True), self.row_n.to(device, non_blocking=True), outside_n
        )


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
    outside_n
        See `Batch`; on the device of the matrix.
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
        outside_n: Tensor | None = None,
        pin: bool = False,
    ) -> None:
        self.pin = pin
        self.x_nf, self.rows, self.outside_n = x_nf, rows, outside_n
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
            outside_n = None if self.outside_n is None else self.outside_n[row_n]
            yield Batch(self._gather(row_n), row_n, outside_n)

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
