"""Parameter groups of the optimizer, with weight decay and learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from gtex_vae.models.vae import VAE
from gtex_vae.nn.decoder import Decoder
from gtex_vae.nn.encoder import Encoder

LINEAR_PATH_RATE = 0.1  # of the learning rate; chosen on validation donors of GTEx v6


def parameter_groups(vae: VAE, parameters: Iterable[nn.Parameter], lr: float) -> list[dict[str, Any]]:
    """Return the parameter groups of a VAE.

    Only the matrices of the MLPs have weight decay; biases, norms, variances and linear paths have none. Linear paths
    start as a PCA. Without a basis their entries are gene loadings, far smaller than a step of Adam, so their learning rate
    is lower.

    Parameters
    ----------
    vae
        The model.
    parameters
        All trained parameters, of the model and of a contrastive term.
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
