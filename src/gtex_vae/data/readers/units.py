"""Recognition of the unit of a matrix from its values; `gtex_vae.data.units` names and converts units.

Shapes: n samples, g genes, s samples that are examined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gtex_vae.data.readers.matrix import RawMatrix
from gtex_vae.data.readers.scaled_counts import are_counts, are_multiples, are_scaled_counts
from gtex_vae.data.rows import LazyRows, rows_of
from gtex_vae.data.units import CONVERTED_ON_READING, MILLION, UNITS, canonical_unit
from gtex_vae.errors import DataError

_FLOOR = float(np.log2(0.001))
# the largest logarithms that a total of a million allows
_LOG2_CEILING = float(np.log2(MILLION + 1))
_LN_CEILING = float(np.log(MILLION + 1))
_SAMPLES_EXAMINED = 256
# RPKM of short genes may add up to a little more than a million; intensities of microarrays have no zeros
_COUNTS_TOTAL = 2.5e6
_ZERO_SHARE = 0.02
# the largest logarithm of a count
_LOG2_COUNT_CEILING = 30.0
_LOG2_COUNTS = ("log2(count+1)", "the values, as 2^x - 1, are whole numbers")


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
    x_sg = _examined(x_ng)
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
        if are_scaled_counts(x_sg, x_sg):
            return (
                "cpm",
                "the values of a sample add up to one million and are multiples of one smallest value",
            )
        return "tpm", "the values of a sample add up to one million"
    if highest <= _LOG2_CEILING:
        return _recognise_log(path, x_sg)
    if highest <= _LOG2_COUNT_CEILING:
        if are_counts(np.exp2(x_sg, dtype=np.float64) - 1):
            return _LOG2_COUNTS
        raise _unsure(path, f"the values are fractional and at most {highest:.4g}, linear or logarithms")
    if np.median(totals) <= 1.05 * MILLION and are_scaled_counts(x_sg, x_sg):
        return (
            "cpm",
            "the values of a sample are multiples of one smallest value, and add up to less than a million",
        )
    if np.median(totals) <= 1.05 * MILLION:
        return (
            "tpm/rpkm",
            f"fractional, the highest {highest:,.0f}; a median sample adds up to {np.median(totals):,.0f}, "
            "so RPKM or a part of the genes in TPM",
        )
    zeros = float((x_sg == 0).mean())
    if np.median(totals) >= _COUNTS_TOTAL and zeros >= _ZERO_SHARE:
        return (
            "counts",
            f"fractional, so estimated or normalised counts: {zeros:.0%} zeros, and a median sample adds up to "
            f"{np.median(totals):,.0f}, more than TPM or RPKM allow",
        )
    raise _unsure(
        path,
        f"the values are fractional and a median sample adds up to {np.median(totals):,.0f}, more than TPM allows",
        ("counts",),
        "if these are estimated or normalised counts (RSEM, Salmon, DESeq2)",
    )


def check_floor(path: Path, unit: str, x_ng: Any, first_negative: str | None) -> None:
    """Refuse negative values in a matrix stated as log2(TPM+0.001) that has no value at the floor of this unit.

    Raises
    ------
    DataError
        The matrix is something else: log-CPM, standardized values or log-ratios.
    """
    if unit != "log2(tpm+0.001)" or first_negative is None:
        return
    x_sg = _examined(x_ng)
    if float(x_sg.min()) < _FLOOR - 0.01 or not (np.abs(x_sg - _FLOOR) < 0.01).any():
        raise DataError(
            f"{path}: unit={unit} has its lowest value at {_FLOOR:.2f}, but the lowest one here is {x_sg.min():.2f}; "
            "give counts, CPM or TPM"
        )


def convert_on_reading(matrix: RawMatrix, *, in_place: bool) -> RawMatrix:
    """Convert a matrix whose unit is in `CONVERTED_ON_READING`, so that later stages never meet these units.

    Parameters
    ----------
    matrix
        With its unit. If ``in_place``, an array or CSR matrix in memory is overwritten.
    in_place
        If False, blocks of rows are converted on access, and the values of ``matrix`` stay as they are.
    """
    spelled = canonical_unit(matrix.unit)
    if spelled not in CONVERTED_ON_READING:
        return matrix
    convert, unit = CONVERTED_ON_READING[spelled]
    reason = f"{spelled}: {matrix.unit_reason}"
    x_ng: Any = matrix.x_ng
    if in_place and (isinstance(x_ng, np.ndarray) or hasattr(x_ng, "tocsr")):
        convert(x_ng if isinstance(x_ng, np.ndarray) else x_ng.data)
        return replace(matrix, unit=unit, unit_reason=reason)

    def read(rows: Any) -> Any:
        taken = rows_of(x_ng, rows)
        taken = (
            taken.astype(np.float32, copy=True) if hasattr(taken, "astype") else np.array(taken, np.float32)
        )
        convert(taken if isinstance(taken, np.ndarray) else taken.data)
        return taken

    return replace(matrix, x_ng=LazyRows(x_ng.shape, read), unit=unit, unit_reason=reason)


def _examined(x_ng: Any) -> np.ndarray:
    """Select up to 256 evenly spaced samples, dense."""
    n = x_ng.shape[0]
    rows = np.unique(np.linspace(0, max(n - 1, 0), min(n, _SAMPLES_EXAMINED)).astype(int))
    few = x_ng[rows]
    return np.asarray(few.toarray() if hasattr(few, "toarray") else few, np.float32)


def _recognise_log(path: Path, x_sg: np.ndarray) -> tuple[str, str]:
    """Recognise non-negative values that are low enough for logarithms."""
    highest = float(x_sg.max())
    unlogged_sg = np.exp2(x_sg, dtype=np.float64) - 1
    unlogged = unlogged_sg.sum(axis=1)
    if _is_million(unlogged):
        if are_scaled_counts(unlogged_sg, x_sg):
            return (
                "log2(cpm+1)",
                "the values of a sample, as 2^x - 1, add up to one million and are multiples of one smallest value",
            )
        return "log2(tpm+1)", "the values of a sample, as 2^x - 1, add up to one million"
    if are_counts(unlogged_sg):
        return _LOG2_COUNTS
    del unlogged_sg
    natural_sg = np.expm1(x_sg, dtype=np.float64)
    natural = natural_sg.sum(axis=1)
    for scale, counts_unit in ((1e4, "ln(cp10k+1)"), (MILLION, "ln(cpm+1)")):
        if (np.abs(natural / scale - 1) < 0.01).mean() < 0.9:
            continue
        evidence = f"the values of a sample, as e^x - 1, add up to {scale:,.0f}"
        if are_scaled_counts(natural_sg, x_sg):
            return counts_unit, f"{evidence} and are multiples of one smallest value"
        if scale == MILLION:
            return "ln(tpm+1)", evidence
        raise _unsure(path, evidence, (counts_unit,), "if they were scaled from counts")
    part = "are multiples of one smallest value, as scaled counts of a part of the genes"
    if are_scaled_counts(natural_sg, x_sg) and are_multiples(natural_sg):
        return "ln(cp10k+1)", f"the values of a sample, as e^x - 1, {part}"
    unlogged_sg = np.exp2(x_sg, dtype=np.float64) - 1
    if are_scaled_counts(unlogged_sg, x_sg) and are_multiples(unlogged_sg):
        return "log2(cpm+1)", f"the values of a sample, as 2^x - 1, {part}"
    del natural_sg, unlogged_sg
    if highest > _LN_CEILING and np.median(unlogged) <= 1.05 * MILLION:
        return (
            "log2(tpm/rpkm+1)",
            f"non-negative, the highest {highest:.2f} lies between ln(10^6+1) and log2(10^6+1), and 2^x - 1 adds "
            f"up to {np.median(unlogged):,.0f} per sample, as for a part of the genes or RPKM",
        )
    raise _unsure(
        path,
        f"the values are fractional and at most {highest:.4g}, linear or logarithms of some base",
        ("tpm", "log2(tpm+1)", "log2(cpm+1)", "ln(tpm+1)", "ln(cp10k+1)", "log10(tpm+1)"),
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
    if at_floor.any() and _is_million((np.exp2(x_sg, dtype=np.float64) - 0.001).sum(axis=1)):
        return "log2(tpm+0.001)", "the values of a sample, as 2^x - 0.001, add up to one million"
    raise DataError(
        f"{path}: negative value at {first_negative}, and no floor at log2(0.001) that would explain it; log-CPM, "
        "standardized and batch-corrected values and log-ratios cannot be used: give counts, CPM or TPM, or state unit="
    )


def _is_million(totals: np.ndarray) -> bool:
    """Check whether at least 90 % of the samples add up to one million within 1 %."""
    return bool((np.abs(totals / MILLION - 1) < 0.01).mean() >= 0.9)


def _unsure(path: Path, what: str, candidates: Sequence[str] = UNITS, when: str = "") -> DataError:
    """Make the error for an ambiguous unit."""
    if len(candidates) == 1:
        (unit,) = candidates
        advice = f"state \"unit='{unit}'\" {when}" if "(" in unit else f"state unit={unit} {when}"
    else:
        advice = f"state unit=, one of {', '.join(candidates)} (with brackets: \"unit='log2(tpm+1)'\")"
    return DataError(f"{path}: the unit cannot be recognised: {what}; {advice}")
