"""Reductions over the processes that train one model; no effect in a single process."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd import Function


def count() -> int:
    """Processes that train together."""
    several = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if several else 1


class _Sum(Function):
    """Sum over processes; what depends on it in any of them comes back to each."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total


def mean(value: Tensor) -> Tensor:
    """Mean over the processes, with its gradient: what a statistic of equal batches is over all of them.

    >>> mean(torch.tensor(3.0))
    tensor(3.)
    """
    if count() == 1:
        return value
    total: Tensor = _Sum.apply(value)
    return total / count()


def agree(value: int) -> int:
    """The first process's value in all of them: what all must do alike may not hang on each one's randomness.

    >>> agree(2)
    2
    """
    if count() == 1:
        return value
    shared = [value]
    distributed.broadcast_object_list(shared, src=0)
    return shared[0]
