"""CUDA graphs of training steps.

A step of these models is hundreds of kernels of a few microseconds each, so a GPU waits for the host to launch the next one.
A CUDA graph launches all of them with one call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gtex_vae.data.loading.memory import Batch


@dataclass
class Captured:
    """Captured step: the graph, and the tensors that it writes gradients and figures to."""

    graph: torch.cuda.CUDAGraph
    gradients: list[Tensor | None]
    figures_k: Tensor


class CapturedStep:
    """Training step that is captured at the second call of its kind, and replayed from then on.

    Everything that a step reads from the host must be in its ``kind``, which has a graph of its own, or in its numbers.
    A replay gives the same bits as running the step, random numbers included: it draws them from the generator's current
    state.

    Parameters
    ----------
    step
        Function of a batch, a tensor of numbers and a kind; replaces the gradients of the parameters and returns a tensor
        of figures.
    parameters
        Trained parameters.
    """

    def __init__(
        self, step: Callable[[Batch, Tensor, Any], Tensor], parameters: Sequence[nn.Parameter]
    ) -> None:
        self._step, self._parameters = step, parameters
        self._batch: Batch | None = None
        self._seen: set[Hashable] = set()
        self._captured: dict[Hashable, Captured] = {}
        self._pool: Any = None

    def __call__(self, batch: Batch, numbers: Sequence[float], kind: Hashable) -> Tensor:
        """Run the step and return its figures, which the next step overwrites; gradients are in the parameters."""
        inputs = self._copy_inputs(batch, numbers)
        if kind not in self._seen:  # the first run loads the kernels, which is not possible during capture
            self._seen.add(kind)
            return self._step(inputs, self._numbers_k, kind)
        if kind not in self._captured:
            self._captured[kind] = self._capture(inputs, kind)
        captured = self._captured[kind]
        for parameter, gradient in zip(self._parameters, captured.gradients, strict=True):
            parameter.grad = gradient
        captured.graph.replay()
        return captured.figures_k

    def _copy_inputs(self, batch: Batch, numbers: Sequence[float]) -> Batch:
        """Copy the batch and the numbers to the tensors that the graphs read."""
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

    def _capture(self, inputs: Batch, kind: Hashable) -> Captured:
        """Capture a step without running it. Graphs share memory, because no step reads what another has written."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            figures_k = self._step(inputs, self._numbers_k, kind)
        self._pool = graph.pool()
        return Captured(graph, [parameter.grad for parameter in self._parameters], figures_k)
