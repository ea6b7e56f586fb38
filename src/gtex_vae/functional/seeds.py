"""Seeds that depend only on the run's seed and the step."""

from __future__ import annotations

import numpy as np
import torch


def step_seed(seed: int, *counters: int) -> int:
    """Mix a seed with counters (step, rank, ...) into an independent 63-bit seed.

    A resumed run then draws the same numbers as an uninterrupted one, without generator states in the checkpoint.

    Examples
    --------
    >>> step_seed(1, 5) == step_seed(1, 5), step_seed(1, 5) == step_seed(1, 6)
    (True, False)
    """
    # spawn_key, because SeedSequence ignores trailing zeros of its entropy: (1, 5) would equal (1, 5, 0)
    sequence = np.random.SeedSequence(seed, spawn_key=counters)
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the CPU's global generator and the device's own.

    ``torch.manual_seed`` seeds every kind of device, which takes 60 microseconds: 2 % of a step on a GPU.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
