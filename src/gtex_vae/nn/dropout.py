"""Dropout that draws four decisions from one random number on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WORD, WORDS = 2**16, 4  # of the 64 bits of a draw


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, several times as fast on a CPU.

    torch draws there one number per unit, in one thread, which takes a tenth of a training step. Here 16 bits decide on a
    unit, so that ``p`` is rounded to a multiple of 2^-16. Elsewhere, and compiled, it is torch's own.
    """

    def forward(self, x_nh: Tensor) -> Tensor:
        """Drop units of (n, h) in training, and scale the others up."""
        if not self.training or x_nh.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x_nh)
        dropped = min(round(self.p * WORD), WORD - 1)
        draws = torch.empty(-(-x_nh.numel() // WORDS), dtype=torch.int64).random_(-(2**63), None)
        words_nh = draws.view(torch.int16)[: x_nh.numel()].view(x_nh.shape)
        return (x_nh * (words_nh >= dropped - WORD // 2)).mul_(WORD / (WORD - dropped))
