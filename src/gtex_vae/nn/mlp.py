"""Stack of fully connected layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from gtex_vae.nn.dropout import Dropout
from gtex_vae.nn.linear import Linear
from gtex_vae.nn.norms import BatchNorm

Norm = Literal["batch", "layer", "none"]
Activation = Literal["elu", "relu", "gelu", "silu"]

NORMS: dict[str, type[nn.Module]] = {"batch": BatchNorm, "layer": nn.LayerNorm}
ACTIVATIONS: dict[str, type[nn.Module]] = {"elu": nn.ELU, "relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


def _silu_slope(x: Tensor) -> Tensor:
    gate = torch.sigmoid(x)
    return gate * (1.0 + x * (1.0 - gate))


def _gelu_slope(x: Tensor) -> Tensor:
    density = torch.exp(-0.5 * x.square()) / math.sqrt(2.0 * math.pi)
    return 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0))) + x * density


SLOPES: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.ELU: lambda x: torch.exp(x.clamp_max(0.0)),
    nn.ReLU: lambda x: (x > 0.0).to(x.dtype),
    nn.GELU: _gelu_slope,
    nn.SiLU: _silu_slope,
}  # derivatives


def xavier_linear(in_features: int, out_features: int, *, bias: bool = True) -> Linear:
    """Linear layer with Glorot-uniform weights and zero bias.

    References
    ----------
    Glorot and Bengio (2010), eq. 16.
    """
    linear = Linear(in_features, out_features, bias=bias)
    nn.init.xavier_uniform_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


def zero_linear(in_features: int, out_features: int) -> Linear:
    """Linear map that is 0 at first."""
    linear = Linear(in_features, out_features, bias=False)
    nn.init.zeros_(linear.weight)
    return linear


class MLP(nn.Sequential):
    """Linear, norm, activation and dropout for each width in ``hidden_dims``.

    Parameters
    ----------
    in_features
        Width of the input.
    hidden_dims
        Widths of the layers in order; empty makes this the identity.
    norm
        ``batch``, ``layer`` or ``none``.
    activation
        ``elu``, ``relu``, ``gelu`` or ``silu``.
    dropout
        Probability of dropping a unit after each activation, in [0, 1).

    Examples
    --------
    >>> import torch
    >>> MLP(10, [8, 4], norm="batch", activation="elu", dropout=0.1)(torch.zeros(3, 10)).shape
    torch.Size([3, 4])
    """

    def __init__(
        self,
        in_features: int,
        hidden_dims: Sequence[int],
        *,
        norm: Norm,
        activation: Activation,
        dropout: float,
    ) -> None:
        layers: list[nn.Module] = []
        width_in = in_features
        for width in hidden_dims:
            # a norm has a shift of its own, so the bias before it would be a dead parameter
            layers.append(xavier_linear(width_in, width, bias=norm == "none"))
            if norm != "none":
                layers.append(NORMS[norm](width))
            layers.append(ACTIVATIONS[activation]())
            if dropout > 0.0:
                layers.append(Dropout(dropout))
            width_in = width
        super().__init__(*layers)
        self.out_features = width_in

    def linearized(self, x_nf: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Output in evaluation, and the product of the transposed Jacobian: a slope at the output to that at the input.

        Plain tensor operations, where autograd would keep the model from being exported or run in inference mode.
        """
        pulls = []
        for layer in self:
            pulls.append(partial(_pull, layer, x_nf))
            x_nf = layer(x_nf)

        def pull(slope_nf: Tensor) -> Tensor:
            for back in reversed(pulls):
                slope_nf = back(slope_nf)
            return slope_nf

        return x_nf, pull


def _pull(layer: nn.Module, x_nf: Tensor, slope_nf: Tensor) -> Tensor:
    """Slope at a layer's input, in evaluation, from that at its output."""
    if isinstance(layer, nn.Linear):
        return slope_nf @ layer.weight
    if isinstance(layer, nn.BatchNorm1d):
        assert layer.running_var is not None
        return slope_nf * (layer.weight * torch.rsqrt(layer.running_var + layer.eps))
    if isinstance(layer, nn.LayerNorm):
        rate_n = torch.rsqrt(x_nf.var(-1, correction=0, keepdim=True) + layer.eps)
        unit_nf, slope_nf = (x_nf - x_nf.mean(-1, keepdim=True)) * rate_n, slope_nf * layer.weight
        along_n = (slope_nf * unit_nf).mean(-1, keepdim=True)
        return rate_n * (slope_nf - slope_nf.mean(-1, keepdim=True) - unit_nf * along_n)
    return slope_nf if isinstance(layer, nn.Dropout) else slope_nf * SLOPES[type(layer)](x_nf)
