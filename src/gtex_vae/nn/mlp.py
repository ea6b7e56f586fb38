"""Stack of fully connected layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from gtex_vae.nn.norms import BatchNorm

Norm = Literal["batch", "layer", "none"]
Activation = Literal["elu", "relu", "gelu", "silu"]

NORMS: dict[str, type[nn.Module]] = {"batch": BatchNorm, "layer": nn.LayerNorm}
ACTIVATIONS: dict[str, type[nn.Module]] = {"elu": nn.ELU, "relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


def xavier_linear(in_features: int, out_features: int, *, bias: bool = True) -> nn.Linear:
    """Linear layer with Glorot-uniform weights and zero bias.

    References
    ----------
    Glorot and Bengio (2010), eq. 16.
    """
    linear = nn.Linear(in_features, out_features, bias=bias)
    nn.init.xavier_uniform_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


def zero_linear(in_features: int, out_features: int) -> nn.Linear:
    """Linear map that is 0 at first."""
    linear = nn.Linear(in_features, out_features, bias=False)
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
                layers.append(nn.Dropout(dropout))
            width_in = width
        super().__init__(*layers)
        self.out_features = width_in
