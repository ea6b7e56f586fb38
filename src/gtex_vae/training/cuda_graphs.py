"""Training steps on a GPU as CUDA graphs.

A step of these models is hundreds of kernels of a few microseconds each, and a GPU has done one before the host has asked
for the next. Recorded once, all of them are asked for with one call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gtex_vae.data.loading.memory import Batch


@dataclass
class Recorded:
    """A step that can be run again: the graph, and where it leaves its gradients and figures."""

    graph: torch.cuda.CUDAGraph
    gradients: list[Tensor | None]
    figures_k: Tensor


class CapturedStep:
    """Run a step of training; from the second of its kind on by replaying it.

    What a step takes from the host must be in its ``kind``, of which each gets a graph of its own, or in its numbers. A
    recorded step gives the bits that the same step gives when it is run, random numbers included: a replay draws
    them from the generator as it stands then.

    Parameters
    ----------
    step
        Takes a batch, numbers as a tensor and a kind; leaves gradients in the parameters, in place of those there, and
        returns a tensor of figures.
    parameters
        What gets gradients.
    """

    def __init__(
        self, step: Callable[[Batch, Tensor, Any], Tensor], parameters: Sequence[nn.Parameter]
    ) -> None:
        self._step, self._parameters = step, parameters
        self._batch: Batch | None = None
        self._seen: set[Hashable] = set()
        self._recorded: dict[Hashable, Recorded] = {}
        self._pool: Any = None

    def __call__(self, batch: Batch, numbers: Sequence[float], kind: Hashable) -> Tensor:
        """Figures of the step, which the next one overwrites; its gradients are in the parameters."""
        inputs = self._hold(batch, numbers)
        if kind not in self._seen:  # the first time every kernel is loaded, which no recording allows
            self._seen.add(kind)
            return self._step(inputs, self._numbers_k, kind)
        if kind not in self._recorded:
            self._recorded[kind] = self._record(inputs, kind)
        recorded = self._recorded[kind]
        for parameter, gradient in zip(self._parameters, recorded.gradients, strict=True):
            parameter.grad = gradient
        recorded.graph.replay()
        return recorded.figures_k

    def _hold(self, batch: Batch, numbers: Sequence[float]) -> Batch:
        """Copy what changes from step to step to where the graphs read it."""
        if self._batch is None:
            self._batch = batch.map(torch.empty_like)
            self._numbers_k = torch.zeros(len(numbers), device=batch.x_nf.device)
            self._numbers: list[float] = [0.0] * len(numbers)
        for name, held in vars(self._batch).items():
            if held is not None:
                held.copy_(getattr(batch, name))
        for k, number in enumerate(numbers):
            if number != self._numbers[k]:
                self._numbers_k[k].fill_(number)
                self._numbers[k] = number
        return self._batch

    def _record(self, inputs: Batch, kind: Hashable) -> Recorded:
        """Record a step, which does not run it. Steps share memory: nobody reads what one has left once another runs."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            figures_k = self._step(inputs, self._numbers_k, kind)
        self._pool = graph.pool()
        return Recorded(graph, [parameter.grad for parameter in self._parameters], figures_k)
