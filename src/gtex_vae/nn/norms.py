"""Batch normalization over the samples of all processes.

Shapes: ``n`` samples, ``h`` hidden units.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gtex_vae.nn import distributed as processes


class BatchNorm(nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` over the samples of all processes in training.

    Two processes with half of a batch each then compute what one does with the whole. torch's ``SyncBatchNorm`` does
    so on GPUs alone. Every process must have as many samples.
    """

    def forward(self, x_nh: Tensor) -> Tensor:
        """Normalize (n, h)."""
        if not self.training or processes.count() == 1:
            return super().forward(x_nh)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        # two rounds: the difference of mean square and squared mean loses digits
        values_nh = x_nh.float()
        mean_h = processes.mean(values_nh.mean(0))
        centered_nh = values_nh - mean_h
        variance_h = processes.mean(centered_nh.square().mean(0))
        with torch.no_grad():
            n = len(x_nh) * processes.count()
            self.running_mean.lerp_(mean_h, self.momentum)
            self.running_var.lerp_(variance_h * (n / (n - 1)), self.momentum)
            self.num_batches_tracked.add_(1)
        normalized_nh = centered_nh * torch.rsqrt(variance_h + self.eps) * self.weight + self.bias
        return normalized_nh.to(x_nh.dtype)
