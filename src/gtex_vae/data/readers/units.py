"""Which unit a matrix is in, told from its values, and the way to log2(TPM+1).

Shapes: n samples, g genes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gtex_vae.errors import ConfigError, DataError

if TYPE_CHECKING:
    from gtex_vae.data.readers.matrix import RawMatrix

#: Units that a matrix can be in. ``tpm/rpkm`` is linear abundance whose totals do not tell which of the two.
UNITS = (
    "counts",
    "tpm",
    "rpkm",
    "tpm/rpkm",
    "log2(tpm+1)",
    "log2(rpkm+1)",
    "log2(tpm/rpkm+1)",
    "log2(cpm+1)",
    "log2(tpm+0.001)",
)

_MILLION = 1e6
_FLOOR = float(np.log2(0.001))
# the largest logarithms that a total of a million allows
_LOG2_CEILING = float(np.log2(_MILLION + 1))
_LN_CEILING = float(np.log(_MILLION + 1))
_SAMPLES_LOOKED_AT = 256
_BLOCK_VALUES = 1 << 22


def recognise_unit(path: Path, x_ng: Any, first_negative: str | None) -> tuple[str, str]:
    """Recognise the unit of a matrix from its values.

    A sum over genes of one million names TPM, before or after undoing a logarithm; whole numbers name counts; a floor
    at log2(0.001) names the Toil transformation. Up to 256 evenly spaced samples are looked at.

    Parameters
    ----------
    path
        The file, for messages.
    x_ng
        Array or CSR matrix, shape (n, g), finite.
    first_negative
        Where the first negative value of the whole matrix is, None if there is none.

    Returns
    -------
    unit : str
        One of :data:`UNITS`.
    reason : str
        What told it.

    Raises
    ------
    DataError
        The values fit no unit, or more than one; the way out is to state ``unit=``.
    """
    n = x_ng.shape[0]
    rows = np.unique(np.linspace(0, max(n - 1, 0), min(n, _SAMPLES_LOOKED_AT)).astype(int))
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
        if highest > _LN_CEILING and np.median(unlogged) <= 1.05 * _MILLION:
            return (
                "log2(tpm/rpkm+1)",
                f"non-negative, the highest {highest:.2f} lies between ln(10^6+1) and log2(10^6+1), and 2^x - 1 adds "
                f"up to {np.median(unlogged):,.0f} per sample, as for a part of the genes or RPKM",
            )
        natural = np.expm1(x_sg, dtype=np.float64).sum(axis=1)
        for scale in (1e4, _MILLION):
            if np.median(np.abs(natural / scale - 1)) < 0.01:
                raise _unsure(
                    path,
                    f"the values look like ln(x+1) of counts scaled to {scale:,.0f}; give counts or TPM instead",
                )
        raise _unsure(
            path, f"the values are fractional and at most {highest:.4g}, linear or logarithms of some base"
        )
    if np.median(totals) <= 1.05 * _MILLION:
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


def check_stated_unit(path: Path, unit: str, first_negative: str | None) -> str:
    """Check a unit that the user stated.

    Raises
    ------
    ConfigError
        No such unit.
    DataError
        The matrix holds negative values, which this unit cannot have.
    """
    unit = unit.lower().replace(" ", "")
    if unit not in UNITS:
        raise ConfigError(f"unit={unit!r} is unknown; use one of {', '.join(UNITS)}")
    if first_negative is not None and unit != "log2(tpm+0.001)":
        raise DataError(
            f"{path}: unit={unit} cannot be negative, but {first_negative} is; mend the file or the unit"
        )
    return unit


def to_log2_tpm(matrix: RawMatrix, length_g: np.ndarray | None = None) -> tuple[Any, str]:
    r"""Convert a matrix to :math:`\log_2(x + 1)`, in place where it is dense.

    TPM and RPKM are taken as they are, :math:`\log_2(2^y - 0.001 + 1)` undoes the Toil transformation, and counts
    become :math:`10^6 r_g / \sum_g r_g` with the rates :math:`r_g = c_g / \ell_g`, that is TPM with the lengths
    :math:`\ell_g`, and CPM without. RPKM is not rescaled to TPM, because a part of the genes would give wrong totals.

    Parameters
    ----------
    matrix
        With its unit. A dense ``x_ng`` is overwritten.
    length_g
        Gene lengths in base pairs, shape (g,); used for counts only.

    Returns
    -------
    x_ng : ndarray or csr_matrix
        float32, shape (n, g).
    unit : str
        ``log2(TPM+1)``, ``log2(RPKM+1)``, ``log2(TPM or RPKM+1)`` or ``log2(CPM+1)``.

    Raises
    ------
    DataError
        Counts of a sample are all zero, or a gene has no positive length.

    References
    ----------
    Wagner, Kin and Lynch (2012), "Measurement of mRNA abundance using RNA-seq data", equation 2.
    """
    unit, x_ng = matrix.unit, matrix.x_ng
    if unit not in UNITS:
        raise DataError(f"{matrix.source.path}: the unit {unit!r} has no known conversion; state unit=")
    result = {"counts": "log2(CPM+1)" if length_g is None else "log2(TPM+1)"}.get(unit)
    if result is None:
        measure = next((name for name in ("TPM/RPKM", "RPKM", "CPM") if name.lower() in unit), "TPM")
        result = f"log2({measure.replace('/', ' or ')}+1)"
    if length_g is not None and unit == "counts" and not (np.asarray(length_g) > 0).all():
        raise DataError(
            f"{matrix.source.path}: a gene has no positive length; drop it before counts become TPM"
        )
    if unit.endswith("+1)"):
        return x_ng, result
    if not isinstance(x_ng, np.ndarray):
        if unit == "log2(tpm+0.001)":
            x_ng = x_ng.toarray()
        else:
            x_ng = x_ng.copy()
            if unit == "counts":
                if length_g is not None:
                    x_ng = x_ng.multiply(1.0 / np.asarray(length_g)).tocsr().astype(np.float32)
                totals = np.asarray(x_ng.sum(axis=1, dtype=np.float64)).ravel()
                scale = _MILLION / _positive(matrix, totals, 0)
                x_ng.data *= np.repeat(scale, np.diff(x_ng.indptr)).astype(np.float32)
            x_ng.data = np.log2(x_ng.data + np.float32(1))
            return x_ng, result
    step = max(1, _BLOCK_VALUES // max(1, x_ng.shape[1]))
    for start in range(0, x_ng.shape[0], step):
        block = x_ng[start : start + step]
        if unit == "log2(tpm+0.001)":
            np.exp2(block, out=block)
            block -= np.float32(0.001)
            np.maximum(block, 0, out=block)
        elif unit == "counts":
            if length_g is not None:
                block /= np.asarray(length_g, np.float32)
            totals = block.sum(axis=1, dtype=np.float64)
            block *= (_MILLION / _positive(matrix, totals, start))[:, np.newaxis].astype(np.float32)
        block += 1
        np.log2(block, out=block)
    return x_ng, result


def _positive(matrix: RawMatrix, totals: np.ndarray, start: int) -> np.ndarray:
    """Totals that may be divided by."""
    empty = np.flatnonzero(totals <= 0)
    if empty.size:
        sample = matrix.sample_ids[start + int(empty[0])]
        raise DataError(f"{matrix.source.path}: sample {sample!r} has no counts at all; blacklist it")
    return totals


def _recognise_negative(path: Path, x_sg: np.ndarray, first_negative: str) -> tuple[str, str]:
    """Only the Toil transformation has negative values, and they stop at its floor."""
    if float(x_sg.min()) < _FLOOR - 0.01 or float(x_sg.max()) > _LOG2_CEILING + 0.01:
        raise DataError(
            f"{path}: negative value at {first_negative}; expression cannot be negative: mend the file"
        )
    at_floor = np.abs(x_sg - _FLOOR) < 0.01
    if at_floor.mean() > 0.01:
        return (
            "log2(tpm+0.001)",
            f"{at_floor.mean():.0%} of the values lie at the floor log2(0.001) = {_FLOOR:.3f}",
        )
    if _is_million((np.exp2(x_sg, dtype=np.float64) - 0.001).sum(axis=1)):
        return "log2(tpm+0.001)", "the values of a sample, as 2^x - 0.001, add up to one million"
    raise DataError(
        f"{path}: negative value at {first_negative}, and no floor at log2(0.001) that would explain it; standardized "
        "or log-ratio values cannot be used, give TPM, counts or log2(TPM+0.001), or state unit="
    )


def _is_million(totals: np.ndarray) -> bool:
    """Whether nearly all samples add up to one million within 1 %."""
    return bool((np.abs(totals / _MILLION - 1) < 0.01).mean() >= 0.9)


def _unsure(path: Path, what: str) -> DataError:
    """Refuse to guess."""
    return DataError(f"{path}: the unit cannot be told: {what}; say unit=, one of {', '.join(UNITS)}")
