"""Units of expression: their names, one spelling for each, and conversion to log2(TPM+1).

`gtex_vae.data.readers.units` recognises the unit of a matrix from its values.

Shapes: n samples, g genes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gtex_vae.errors import ConfigError, DataError

MILLION = 1e6
_BLOCK_VALUES = 1 << 22


def _counts_of_log2(x: np.ndarray) -> None:
    np.exp2(x, out=x)
    x -= np.float32(1)
    np.rint(x, out=x)


def _cpm_of_ln_cpm(x: np.ndarray) -> None:
    np.expm1(x, out=x)


def _cpm_of_ln_cp10k(x: np.ndarray) -> None:
    np.expm1(x, out=x)
    x *= np.float32(100)


def _log2_of_ln(x: np.ndarray) -> None:
    x *= np.float32(1 / np.log(2))


def _log2_of_log10(x: np.ndarray) -> None:
    x *= np.float32(np.log2(10))


#: Units that are converted while a matrix is read: conversion in place (zero stays zero), and the resulting unit.
CONVERTED_ON_READING: dict[str, tuple[Callable[[np.ndarray], None], str]] = {
    "log2(count+1)": (_counts_of_log2, "counts"),
    "ln(cp10k+1)": (_cpm_of_ln_cp10k, "cpm"),
    "ln(cpm+1)": (_cpm_of_ln_cpm, "cpm"),
    "ln(tpm+1)": (_log2_of_ln, "log2(tpm+1)"),
    "log10(tpm+1)": (_log2_of_log10, "log2(tpm+1)"),
}
#: Units that a matrix can be in. ``tpm/rpkm`` is linear abundance whose totals fit both TPM and RPKM; ``cp10k`` are
#: counts per 10,000.
UNITS = (
    "counts",
    "cpm",
    "tpm",
    "rpkm",
    "tpm/rpkm",
    "log2(tpm+1)",
    "log2(rpkm+1)",
    "log2(tpm/rpkm+1)",
    "log2(cpm+1)",
    "log2(tpm+0.001)",
    *CONVERTED_ON_READING,
)
#: Units from which TPM follows with the lengths of the genes: proportional to counts within a sample.
COUNT_UNITS = ("counts", "cpm")


def canonical_unit(unit: str) -> str:
    """Spell a unit as in :data:`UNITS`; unknown units are returned in lower case without spaces.

    >>> canonical_unit("log2(TPM or RPKM+1)"), canonical_unit("log2(TPM + 1)"), canonical_unit("Counts")
    ('log2(tpm/rpkm+1)', 'log2(tpm+1)', 'counts')
    """
    return unit.lower().replace(" ", "").replace("tpmorrpkm", "tpm/rpkm")


def log_offset(unit: str) -> float | None:
    """Offset c of a unit ``log2(v+c)``; None for a linear unit.

    >>> log_offset("log2(TPM+1)"), log_offset("log2(TPM+0.001)"), log_offset("counts")
    (1.0, 0.001, None)
    """
    found = re.search(r"log2\([^+]*\+\s*([\d.]+)\)", unit)
    return float(found[1]) if found else None


def converted_unit(unit: str, *, with_lengths: bool) -> str:
    """Name the unit that `to_log2_tpm` returns.

    >>> converted_unit("counts", with_lengths=True), converted_unit("tpm/rpkm", with_lengths=False)
    ('log2(TPM+1)', 'log2(TPM or RPKM+1)')
    """
    if unit in COUNT_UNITS:
        return "log2(TPM+1)" if with_lengths else "log2(CPM+1)"
    measure = next((name for name in ("TPM/RPKM", "RPKM", "CPM") if name.lower() in unit), "TPM")
    return f"log2({measure.replace('/', ' or ')}+1)"


def check_stated_unit(path: Path, unit: str, first_negative: str | None) -> str:
    """Check a unit that the user or the file states, and return it as in :data:`UNITS`.

    Raises
    ------
    ConfigError
        The unit is unknown.
    DataError
        The matrix has a negative value, which this unit cannot have.
    """
    unit = canonical_unit(unit)
    if unit not in UNITS:
        raise ConfigError(f"unit={unit!r} is unknown; use one of {', '.join(UNITS)}")
    if first_negative is not None and unit != "log2(tpm+0.001)":
        raise DataError(
            f"{path}: unit={unit} cannot be negative, but {first_negative} is; correct the file or the unit"
        )
    return unit


def to_log2_tpm(x_ng: Any, unit: str, length_g: np.ndarray | None = None, *, path: Path) -> tuple[Any, str]:
    r"""Convert values to :math:`\log_2(x + 1)`, in place where they are dense.

    TPM and RPKM are used as they are. :math:`\log_2(2^y - 0.001 + 1)` undoes the Toil transformation. Counts become
    :math:`10^6 r_g / \sum_g r_g` with the rates :math:`r_g = c_g / \ell_g`: TPM with the lengths :math:`\ell_g`, CPM
    without; so does CPM. RPKM is not rescaled to TPM, because the totals of a part of the genes would be wrong.

    Parameters
    ----------
    x_ng
        Array or CSR matrix, float32, shape (n, g). An array is overwritten.
    unit
        One of :data:`UNITS`, after conversion on reading.
    length_g
        Gene lengths in base pairs, shape (g,); used for counts and CPM only.
    path
        The file, for messages.

    Returns
    -------
    x_ng : ndarray or csr_matrix
        float32, shape (n, g).
    unit : str
        ``log2(TPM+1)``, ``log2(RPKM+1)``, ``log2(TPM or RPKM+1)`` or ``log2(CPM+1)``.

    Raises
    ------
    DataError
        The unit has no conversion, or a gene has no positive length.

    References
    ----------
    Wagner, Kin and Lynch (2012), "Measurement of mRNA abundance using RNA-seq data", equation 2.
    """
    if unit not in UNITS or unit in CONVERTED_ON_READING:
        raise DataError(f"{path}: the unit {unit!r} has no known conversion; state unit=")
    if length_g is not None and unit in COUNT_UNITS and not (np.asarray(length_g) > 0).all():
        raise DataError(f"{path}: a gene has no positive length; drop it before counts become TPM")
    result = converted_unit(unit, with_lengths=length_g is not None)
    if unit.endswith("+1)"):
        return x_ng, result
    if unit == "log2(tpm+0.001)" and not isinstance(x_ng, np.ndarray):
        x_ng = x_ng.toarray()
    if not isinstance(x_ng, np.ndarray):
        x_ng = x_ng.copy()
        if unit in COUNT_UNITS:
            x_ng = _sparse_to_million(x_ng, length_g)
        x_ng.data = np.log2(x_ng.data + np.float32(1))
        return x_ng, result
    step = max(1, _BLOCK_VALUES // max(1, x_ng.shape[1]))
    for start in range(0, x_ng.shape[0], step):
        block = x_ng[start : start + step]
        if unit == "log2(tpm+0.001)":
            np.exp2(block, out=block)
            block -= np.float32(0.001)
            np.maximum(block, 0, out=block)
        elif unit in COUNT_UNITS:
            _dense_to_million(block, length_g)
        block += 1
        np.log2(block, out=block)
    return x_ng, result


def _sparse_to_million(x_ng: Any, length_g: np.ndarray | None) -> Any:
    """Scale counts, or their rates, of each sample of a CSR matrix to one million."""
    if length_g is not None:
        x_ng = x_ng.multiply(1.0 / np.asarray(length_g)).tocsr().astype(np.float32)
    totals = np.asarray(x_ng.sum(axis=1, dtype=np.float64)).ravel()
    x_ng.data *= np.repeat(_scale_to_million(totals), np.diff(x_ng.indptr)).astype(np.float32)
    return x_ng


def _dense_to_million(x_ng: np.ndarray, length_g: np.ndarray | None) -> None:
    """Scale counts, or their rates, of each sample to one million in place."""
    if length_g is not None:
        x_ng /= np.asarray(length_g, np.float32)
    totals = x_ng.sum(axis=1, dtype=np.float64)
    x_ng *= _scale_to_million(totals)[:, np.newaxis].astype(np.float32)


def _scale_to_million(totals: np.ndarray) -> np.ndarray:
    """Return the factor of each sample; samples without counts stay zero, and filters of samples drop them."""
    return np.divide(MILLION, totals, out=np.zeros_like(totals), where=totals > 0)
