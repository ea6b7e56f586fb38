"""Fully connected layer, through oneDNN where torch would take a slower product.

Shapes: ``n`` samples, ``i`` inputs, ``o`` outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

LARGE = 2**18  # weights; smaller layers gain nothing


class Linear(nn.Linear):
    """`torch.nn.Linear` that computes float32 products on a CPU with oneDNN.

    torch uses MKL, which on AMD processors takes up to twice the time for a wide layer and a batch of a few hundred
    samples. In bfloat16 torch uses oneDNN itself. The order of additions differs.
    """

    def forward(self, x_ni: Tensor) -> Tensor:
        """Map (n, i) to (n, o)."""
        if not self._through_onednn(x_ni):
            return super().forward(x_ni)
        if torch.is_grad_enabled():
            product: Tensor = _Product.apply(x_ni, self.weight, self.bias)
            return product
        return _product(x_ni, self.weight, self.bias)

    def _through_onednn(self, x_ni: Tensor) -> bool:
        return (
            self.weight.numel() >= LARGE
            and x_ni.device.type == "cpu"
            and x_ni.dtype == self.weight.dtype == torch.float32
            and x_ni.ndim == 2
            and not torch.compiler.is_compiling()
            and len(x_ni) > 1  # after the line above: an exported program would be of this many samples only
            and not torch.is_autocast_enabled("cpu")
            and not torch._C._are_functorch_transforms_active()
            and torch.backends.mkldnn.is_available()
        )


class _Product(Function):
    """x W^T + b and its gradients."""

    @staticmethod
    def forward(ctx: Any, x_ni: Tensor, weight_oi: Tensor, bias_o: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_ni, weight_oi)
        return _product(x_ni, weight_oi, bias_o)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_no: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x_ni, weight_oi = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _product(gradient_no, weight_oi.T) if needs_x else None,
            _product(gradient_no.T, x_ni.T) if needs_weight else None,
            gradient_no.sum(0) if needs_bias else None,
        )


def _product(x_ni: Tensor, weight_oi: Tensor, bias_o: Tensor | None = None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x_ni, weight_oi, bias_o, "none", [], "")
    return product
