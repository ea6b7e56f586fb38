"""Values that training steps report: means of the loss terms, and samples per second."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import Tensor

FIGURES = "loss", "nll_nats", "mse", "kl_nats", "contrastive"  # the last one only with a contrastive term


class StepReport:
    """Means of the figures of training steps since the last report, with the throughput.

    Figures are summed on the device: each value that Lightning logs would cost a third of a millisecond a step.
    """

    def __init__(self) -> None:
        self._sums_k: Tensor | None = None
        self._steps, self._seconds = 0, 0.0
        self._since: float | None = None  # the clock runs from here

    def add(self, figures_k: Tensor) -> None:
        """Add the figures of one step, in the order of `FIGURES`."""
        self._sums_k = figures_k.clone() if self._sums_k is None else self._sums_k + figures_k
        self._steps += 1

    def start_clock(self) -> None:
        """Start to measure time, or continue."""
        self._since = time.monotonic()

    def stop_clock(self) -> None:
        """Stop to measure time; validation is not training."""
        if self._since is not None:
            self._seconds += time.monotonic() - self._since
        self._since = None

    def take(self, reduce: Callable[[Tensor], Tensor], samples_per_step: int) -> dict[str, float]:
        """Return the means by TensorBoard tag, and start again; empty without any step.

        Parameters
        ----------
        reduce
            Averages a tensor over the processes.
        samples_per_step
            Samples of all processes.
        """
        if self._sums_k is None:
            return {}
        means = [total / self._steps for total in reduce(self._sums_k).tolist()]
        self.stop_clock()
        values = {f"train/{name}": mean for name, mean in zip(FIGURES, means, strict=False)}
        values["train/samples_per_second"] = self._steps * samples_per_step / max(self._seconds, 1e-9)
        self._sums_k, self._steps, self._seconds = None, 0, 0.0
        self.start_clock()
        return values
