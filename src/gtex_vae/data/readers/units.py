"""Recognition of the unit of a matrix from its values; `gtex_vae.data.units` names and converts units.

Shapes: n samples, g genes, s samples that are examined.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gtex_vae.data.units import MILLION, UNITS
from gtex_vae.errors import DataError

_FLOOR = float(np.log2(0.001))
# the largest logarithms that a total of a million allows
_LOG2_CEILING = float(np.log2(MILLION + 1))
_LN_CEILING = float(np.log(MILLION + 1))
_SAMPLES_EXAMINED = 256


def recognise_unit(path: Path, x_ng: Any, first_negative: str | None) -> tuple[str, str]:
    """Recognise the unit of a matrix from its values.

    Samples that add up to one million, before or after undoing a logarithm, are TPM; whole numbers are counts; a floor
    at log2(0.001) is the Toil transformation. Up to 256 evenly spaced samples are examined.

    Parameters
    ----------
    path
        The file, for messages.
    x_ng
        Array or CSR matrix, shape (n, g), finite.
    first_negative
        Place of the first negative value of the whole matrix, or None.

    Returns
    -------
    unit : str
        One of :data:`gtex_vae.data.units.UNITS`.
    reason : str
        Evidence for it.

    Raises
    ------
    DataError
        The values fit no unit, or more than one; the user must state ``unit=``.
    """
    n = x_ng.shape[0]
    rows = np.unique(np.linspace(0, max(n - 1, 0), min(n, _SAMPLES_EXAMINED)).astype(int))
    few = x_ng[rows]
    x_sg = np.asarray(few.toarray() if hasattr(few, "toarray") else few, np.float32)
    if not x_sg.size or not x_sg.any():
        raise _unsure(path, "every value is zero" if x_sg.size else "no values were read")
    highest = float(x_sg.max())
    if first_negative is not None:
        return _recognise_negative(path, x_sg, first_negative)
    if np.array_equal(x_sg, np.rint(x_sg)):
        if highest <= 1:
            raise _unsure(path, "the values are only 0 and 1")
        return "counts", f"all values are whole numbers, the highest {highest:,.0f}"

    totals = x_sg.sum(axis=1, dtype=np.float64)
    if _is_million(totals):
        return "tpm", "the values of a sample add up to one million"
    if highest <= _LOG2_CEILING:
        unlogged = (np.exp2(x_sg, dtype=np.float64) - 1).sum(axis=1)
        if _is_million(unlogged):
            return "log2(tpm+1)", "the values of a sample, as 2^x - 1, add up to one million"
        if highest > _LN_CEILING and np.median(unlogged) <= 1.05 * MILLION:
            return (
                "log2(tpm/rpkm+1)",
                f"non-negative, the highest {highest:.2f} lies between ln(10^6+1) and log2(10^6+1), and 2^x - 1 adds "
                f"up to {np.median(unlogged):,.0f} per sample, as for a part of the genes or RPKM",
            )
        natural = np.expm1(x_sg, dtype=np.float64).sum(axis=1)
        for scale in (1e4, MILLION):
            if np.median(np.abs(natural / scale - 1)) < 0.01:
                raise _unsure(
                    path,
                    f"the values look like ln(x+1) of counts scaled to {scale:,.0f}; give counts or TPM instead",
                )
        raise _unsure(
            path, f"the values are fractional and at most {highest:.4g}, linear or logarithms of some base"
        )
    if np.median(totals) <= 1.05 * MILLION:
        return (
            "tpm/rpkm",
            f"fractional, the highest {highest:,.0f}; a median sample adds up to {np.median(totals):,.0f}, "
            "so RPKM or a part of the genes in TPM",
        )
    raise _unsure(
        path,
        f"the values are fractional and a median sample adds up to {np.median(totals):,.0f}, more than TPM allows "
        "(estimated or normalised counts?)",
    )


def _recognise_negative(path: Path, x_sg: np.ndarray, first_negative: str) -> tuple[str, str]:
    """Recognise the Toil transformation, the only unit with negative values; none is below its floor."""
    if float(x_sg.min()) < _FLOOR - 0.01 or float(x_sg.max()) > _LOG2_CEILING + 0.01:
        raise DataError(
            f"{path}: negative value at {first_negative}; expression cannot be negative: correct the file"
        )
    at_floor = np.abs(x_sg - _FLOOR) < 0.01
    if at_floor.mean() > 0.01:
        return (
            "log2(tpm+0.001)",
            f"{at_floor.mean():.0%} of the values are at the floor log2(0.001) = {_FLOOR:.3f}",
        )
    if _is_million((np.exp2(x_sg, dtype=np.float64) - 0.001).sum(axis=1)):
        return "log2(tpm+0.001)", "the values of a sample, as 2^x - 0.001, add up to one million"
    raise DataError(
        f"{path}: negative value at {first_negative}, and no floor at log2(0.001) that would explain it; standardized "
        "or log-ratio values cannot be used, give TPM, counts or log2(TPM+0.001), or state unit="
    )


def _is_million(totals: np.ndarray) -> bool:
    """Check whether at least 90 % of the samples add up to one million within 1 %."""
    return bool((np.abs(totals / MILLION - 1) < 0.01).mean() >= 0.9)


def _unsure(path: Path, what: str) -> DataError:
    """Make the error for an ambiguous unit."""
    return DataError(f"{path}: the unit cannot be recognised: {what}; state unit=, one of {', '.join(UNITS)}")
