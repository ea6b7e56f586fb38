"""Batches by index from a matrix that is already in memory.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gtex_vae.functional.masking import step_seed


@dataclass(frozen=True)
class Batch:
    """A batch of samples.

    Attributes
    ----------
    x_ng
        Standardized expression, shape (n, g), float32.
    row_n
        Rows of the full matrix, shape (n,), int64.
    """

    x_ng: Tensor
    row_n: Tensor


class BatchLoader:
    """Gather whole batches from a matrix in memory or on the device, with no worker processes.

    One indexing call per batch replaces a Python call per sample. The order of epoch e is a function of
    ``(seed, e)``, and the position in it is one counter, so that a restored loader goes on exactly where it was.
    Lightning restores the position only when it goes on inside an epoch, so the epoch is asked for, not counted.

    Parameters
    ----------
    x_ng
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
    epoch
        Tells the number of the epoch that begins.
    rank, world_size
        This process and the number of processes; each takes every ``world_size``-th of the common order.

    Examples
    --------
    >>> loader = BatchLoader(torch.arange(10.0)[:, None], torch.arange(10), batch_size=4, shuffle=True, seed=0)
    >>> [len(batch.row_n) for batch in loader]
    [4, 4]
    """

    def __init__(
        self,
        x_ng: Tensor,
        rows: Tensor,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        epoch: Callable[[], int] = lambda: 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.x_ng, self.rows = x_ng, rows
        self.batch_size = batch_size
        self.shuffle, self.seed, self.epoch = shuffle, seed, epoch
        self.rank, self.world_size = rank, world_size
        self._position, self._start = 0, 0

    def __len__(self) -> int:
        """Batches per epoch in this process."""
        if self.shuffle:
            per_process = len(self.rows) // self.world_size
            return max(1, per_process // self.batch_size)
        return -(-len(self.rows[self.rank :: self.world_size]) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the epoch, or the rest of it right after `load_state_dict`."""
        order = self._order().to(self.x_ng.device)
        start, self._start = self._start, 0  # an epoch may be left early, so where it stopped says nothing
        for batch in range(start, len(self)):
            row_n = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            self._position = batch + 1
            yield Batch(self.x_ng.index_select(0, row_n), row_n)

    def _order(self) -> Tensor:
        if not self.shuffle:
            return self.rows[self.rank :: self.world_size]
        generator = torch.Generator().manual_seed(step_seed(self.seed, self.epoch()))
        order = self.rows[torch.randperm(len(self.rows), generator=generator)]
        return order[self.rank :: self.world_size]

    def state_dict(self) -> dict[str, Any]:
        """Batches served so far in this epoch."""
        return {"position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin the next iteration after as many batches as the state says."""
        self._start = state["position"]
