"""Schedules as pure functions of progress: the fraction of training done, from 0 to 1.

Nothing here remembers anything, so a resumed run sees the values of an uninterrupted one.
"""

from __future__ import annotations

import math
from typing import Literal

Shape = Literal["constant", "linear", "cosine", "exponential", "sigmoid"]

STEEPNESS = 5.0  # of the exponential and sigmoid ramps: e^-5 < 1 % of the way at the flat end


def ramp(position: float, shape: Shape) -> float:
    """Rise from 0 at position 0 to 1 at position 1, constant outside.

    Parameters
    ----------
    position
        Where on the ramp, usually in [0, 1].
    shape
        ``linear`` t; ``cosine`` (1 - cos(pi t)) / 2; ``exponential`` (e^(kt) - 1) / (e^k - 1) with k = 5;
        ``sigmoid`` the logistic function of 2k (t - 1/2), rescaled to reach 0 and 1; ``constant`` is 1 throughout.

    Examples
    --------
    >>> [ramp(t, "linear") for t in (0.0, 0.25, 1.0, 2.0)]
    [0.0, 0.25, 1.0, 1.0]
    """
    t = min(max(position, 0.0), 1.0)
    if shape == "constant":
        return 1.0
    if shape == "linear":
        return t
    if shape == "cosine":
        return 0.5 * (1.0 - math.cos(math.pi * t))
    if shape == "exponential":
        return math.expm1(STEEPNESS * t) / math.expm1(STEEPNESS)
    if shape == "sigmoid":
        low, value = (1.0 / (1.0 + math.exp(-2.0 * STEEPNESS * (u - 0.5))) for u in (0.0, t))
        return (value - low) / (1.0 - 2.0 * low)
    raise ValueError(f"shape={shape!r} is not one of constant, linear, cosine, exponential, sigmoid")


def kl_weight(
    progress: float,
    *,
    shape: Shape = "linear",
    beta: float = 1.0,
    start: float = 0.0,
    cycles: float = 1.0,
    ratio: float = 0.25,
    decay: float = 1.0,
    floor: float = 0.0,
) -> float:
    r"""Weight of the KL term.

    Until ``start`` it is ``floor``. The rest of training is cut into ``cycles`` equal cycles; each ramps up over
    its first ``ratio`` and then holds. Cycle number c (from 0) tops out at ``beta * decay**c``:

    .. math:: w = \max(\text{floor}, \beta\, \text{decay}^{c}\, \text{ramp}(\tau / \text{ratio})),
              \quad c + \tau = \text{cycles} \frac{\text{progress} - \text{start}}{1 - \text{start}}

    One cycle is the usual warm-up; several with ``decay=1`` are cyclical annealing; ``ratio=1`` with ``decay<1`` and
    ``floor=0.01`` is the "beta-VAE style" schedule of the published GTEx VAE.

    Parameters
    ----------
    progress
        Fraction of training done, in [0, 1].
    shape
        Shape of each ramp.
    beta
        Weight at the top of the first cycle; 1 is the ELBO.
    start
        Fraction of training before the first cycle.
    cycles
        Number of cycles; it need not be whole.
    ratio
        Fraction of each cycle spent rising, in (0, 1].
    decay
        Factor on the top from one cycle to the next.
    floor
        The weight never falls below it.

    References
    ----------
    Bowman et al. (2016), section 3.1 (KL cost annealing); Fu et al. (2019), Cyclical Annealing Schedule, eq. 6-7.

    Examples
    --------
    >>> [kl_weight(p, ratio=0.5) for p in (0.0, 0.25, 0.5, 1.0)]
    [0.0, 0.5, 1.0, 1.0]
    """
    if progress < start:
        return floor
    position = cycles * (progress - start) / (1.0 - start)
    # the end of training belongs to the last cycle rather than opening one more
    cycle = min(math.floor(position), math.ceil(cycles) - 1)
    return max(floor, beta * decay**cycle * ramp((position - cycle) / ratio, shape))


def warmup_end(*, shape: Shape, start: float, cycles: float, ratio: float) -> float:
    """Fraction of training after which the KL weight has once been at its top.

    >>> warmup_end(shape="linear", start=0.0, cycles=1, ratio=0.25)
    0.25
    """
    if shape == "constant":
        return start
    return min(1.0, start + (1.0 - start) * ratio / cycles)


def kl_capacity(progress: float, *, capacity: float, ratio: float = 0.25) -> float:
    """Target for the KL, rising linearly from 0 to ``capacity`` nats over the first ``ratio`` of training.

    References
    ----------
    Burgess et al. (2018), Understanding disentangling in beta-VAE, eq. 8.
    """
    return capacity * ramp(progress / ratio, "linear")


def warmup_cosine(progress: float, *, warmup: float, final: float) -> float:
    """Learning-rate factor: linear up to 1 over ``warmup``, then half a cosine down to ``final``.

    References
    ----------
    Loshchilov and Hutter (2017), SGDR, eq. 5, with one period.

    Examples
    --------
    >>> [round(warmup_cosine(p, warmup=0.1, final=0.0), 3) for p in (0.0, 0.05, 0.1, 0.55, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    return final + (1.0 - final) * (1.0 - ramp((progress - warmup) / max(1.0 - warmup, 1e-12), "cosine"))
