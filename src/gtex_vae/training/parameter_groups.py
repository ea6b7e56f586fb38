"""What an optimizer is told of each of a VAE's parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from gtex_vae.models.vae import VAE
from gtex_vae.nn.decoder import Decoder
from gtex_vae.nn.encoder import Encoder

LINEAR_PATH_RATE = 0.1  # of the learning rate; chosen on validation donors of GTEx v6


def parameter_groups(vae: VAE, parameters: Iterable[nn.Parameter], lr: float) -> list[dict[str, Any]]:
    """Groups of parameters with their weight decay and learning rate.

    Weight decay is for the matrices of the MLPs: not for biases, norms and variances, and not for the linear
    paths. Those start as a PCA, with entries far smaller than a step of Adam where they are loadings of genes, so
    there they learn more slowly.

    Parameters
    ----------
    vae
        The model.
    parameters
        Everything that is trained, of the model and beside it.
    lr
        Learning rate.
    """
    parts: list[Encoder | Decoder] = [*vae.encoders, *vae.decoders]
    of_parts = [part.skip for part in parts] + [part.condition for part in parts]
    paths = [layer.weight for layer in of_parts if layer is not None]
    rest = [p for p in parameters if not any(p is path for path in paths)]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if p.ndim > 1]},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if paths:
        rate = LINEAR_PATH_RATE if vae.basis_fg is None else 1.0
        groups.append({"params": paths, "weight_decay": 0.0, "lr": rate * lr})
    return groups
