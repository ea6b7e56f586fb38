"""Masks that hide entries of the input.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def draw_ratio(low: float, high: float, whole: float, seed: int) -> float:
    """Fraction of entries to hide in one batch: 0 with probability ``whole``, else uniform in [low, high].

    Parameters
    ----------
    low, high
        Range of the hidden fraction.
    whole
        Probability that the batch stays whole. Without whole batches a model trained on masked input is worse on
        whole input than on masked, because whole input is then outside what it was trained on.
    seed
        The same seed gives the same ratio.
    """
    rng = np.random.default_rng(seed)
    kept_whole = rng.random() < whole
    return 0.0 if kept_whole else float(rng.uniform(low, high))


def draw_observed(x_ng: Tensor, ratio: float | Tensor) -> Tensor:
    """Independent Bernoulli(1 - ratio) per entry from the global generator: 1 where the entry stays, else 0."""
    return torch.empty_like(x_ng).bernoulli_(1.0 - ratio)


def hide(x_ng: Tensor, observed_ng: Tensor) -> Tensor:
    r"""Set hidden entries to 0 (the training mean) and rescale the others by the kept fraction of each sample.

    .. math:: \tilde x_{ng} = x_{ng} o_{ng} \, G / \sum_g o_{ng}

    so that the expected input of the first layer does not depend on how much was hidden.

    Parameters
    ----------
    x_ng
        Standardized expression, shape (n, g).
    observed_ng
        1 or True where the entry is seen, 0 or False where hidden, shape (n, g).

    Returns
    -------
    Tensor
        Shape (n, g). A sample with nothing observed comes back as zeros.

    Examples
    --------
    >>> hide(torch.ones(1, 4), torch.tensor([[1.0, 0.0, 1.0, 1.0]]))
    tensor([[1.3333, 0.0000, 1.3333, 1.3333]])
    """
    kept_n1 = observed_ng.to(x_ng.dtype).mean(-1, keepdim=True).clamp_min(1.0 / x_ng.shape[-1])
    return x_ng * observed_ng / kept_n1
