"""Traces of counts in values: whole numbers, and multiples of one smallest value after scaling to a library size.

Shapes: s samples, g genes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_MIN_LOW_VALUES = 12


def are_counts(x_sg: np.ndarray) -> bool:
    """Check whether unlogged values are whole numbers, up to the rounding of the logarithms, which grows with them."""
    for highest, tolerance in ((1000, 0.02), (100, 0.02), (6.5, 0.04)):
        low = x_sg[(x_sg > 0.5) & (x_sg < highest)]
        if low.size >= _MIN_LOW_VALUES and (np.abs(low - np.rint(low)) < tolerance).mean() > 0.99:
            return True
    return False


def are_scaled_counts(linear_sg: np.ndarray, given_sg: np.ndarray) -> bool:
    """Check whether the values of a sample are multiples of one smallest value, as counts over a library size are.

    Rounding to some decimals also leaves few distinct low values. These lie on a grid as given, whose step is the same
    in all samples or a power of ten.
    """
    found, steps, grid = [], [], []
    for linear_g, given_g in zip(linear_sg, given_sg, strict=True):
        positive = linear_g > 0
        if not positive.any():
            continue
        low = positive & (linear_g < 20.5 * linear_g[positive].min())
        values = np.unique(given_g[low])
        found.append(low.sum() >= max(30, 2 * len(values)) and 1 < len(values) <= 20)
        if len(values) > 1:
            gaps = np.diff(values.astype(np.float64))
            steps.append(float(gaps.min()))
            ratios = gaps / steps[-1]
            grid.append(bool((np.abs(ratios - np.rint(ratios)) < 0.02).all()))
    if are_multiples(linear_sg) and not (steps and np.mean(grid) >= 0.5 and _is_decimal(steps)):
        return True
    if not found or np.mean(found) < 0.5:
        return False
    same = len(steps) > 1 and (np.abs(np.array(steps) / np.median(steps) - 1) < 1e-3).mean() >= 0.9
    return not (np.mean(grid) >= 0.5 and (_is_decimal(steps) or same))


def _is_decimal(steps: Sequence[float]) -> bool:
    """Check whether most steps are powers of ten."""
    powers = np.log10(steps)
    return bool((np.abs(powers - np.rint(powers)) < 1e-3).mean() >= 0.5)


def are_multiples(linear_sg: np.ndarray) -> bool:
    """Check whether the low values of most samples are multiples of the smallest one, or of a part of it.

    The smallest count need not be 1. With a wrong base of the logarithm, values are no multiples.
    """
    shares = []
    for linear_g in linear_sg:
        positive = linear_g[linear_g > 0]
        if not positive.size:
            continue
        ratio = positive / positive.min()
        ratio = ratio[(ratio > 1.5) & (ratio < 100)]
        if ratio.size >= 2 * _MIN_LOW_VALUES:
            parts = (part * ratio for part in range(1, 5))
            shares.append(max(float((np.abs(x - np.rint(x)) < 0.03).mean()) for x in parts))
    return bool(shares) and float(np.median(shares)) > 0.97
