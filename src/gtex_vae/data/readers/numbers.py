"""Decimal text to float32 at memory speed, compiled, with the interpreter only for odd tokens.

A token of up to 18 digits and a power of ten within 10^22 is exact in double precision arithmetic (Clinger 1990),
so the compiled loop handles it; every other token is left to Python, which parses or refuses it.
"""

from __future__ import annotations

import re

import numba
import numpy as np

_POWERS_OF_TEN = 10.0 ** np.arange(23)
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MISSING = {"", "na", "nan", "n/a", "#n/a", "null", "none", "-", ".", "?"}
_INFINITE = {"inf", "infinity"}


@numba.njit(nogil=True, cache=True, boundscheck=False)  # type: ignore[untyped-decorator]
def parse_values(
    text: np.ndarray,
    start: int,
    stop: int,
    delimiter: int,
    target: np.ndarray,
    out: np.ndarray,
    odd: np.ndarray,
) -> tuple[int, int, int]:
    """Parse the delimited numbers in ``text[start:stop]`` into ``out``.

    Parameters
    ----------
    text
        Bytes, uint8, with at least one byte behind ``stop``.
    start, stop
        First byte of the first value; the position of the line end.
    delimiter
        Byte that divides values.
    target
        int32, one per expected value: its place in ``out``, or -1 to skip it unparsed.
    out
        float32, filled in place.
    odd
        int64, (values, 3): column, start and stop of each token that this loop does not handle, filled in place.

    Returns
    -------
    found : int
        Values in the line; more or fewer than expected means that it is ragged.
    n_odd : int
        Rows of ``odd`` that were filled.
    negative : int
        Column of the first negative value, -1 if there is none.
    """
    expected = target.shape[0]
    column = 0
    n_odd = 0
    negative = -1
    i = start
    while True:
        if column >= expected or target[column] < 0:
            while i < stop and text[i] != delimiter:
                i += 1
        else:
            begin = i
            sign = 1.0
            if i < stop and (text[i] == 45 or text[i] == 43):
                if text[i] == 45:
                    sign = -1.0
                i += 1
            mantissa = np.uint64(0)
            first_digit = i
            while i < stop:
                digit = text[i] - np.uint8(48)
                if digit > 9:
                    break
                mantissa = mantissa * np.uint64(10) + np.uint64(digit)
                i += 1
            digits = i - first_digit
            exponent = 0
            if i < stop and text[i] == 46:
                i += 1
                first_digit = i
                while i < stop:
                    digit = text[i] - np.uint8(48)
                    if digit > 9:
                        break
                    mantissa = mantissa * np.uint64(10) + np.uint64(digit)
                    i += 1
                exponent = first_digit - i
                digits -= exponent
            well = 0 < digits <= 18
            if well and i < stop and (text[i] == 101 or text[i] == 69):
                i += 1
                minus = False
                if i < stop and (text[i] == 45 or text[i] == 43):
                    minus = text[i] == 45
                    i += 1
                power = 0
                first_digit = i
                while i < stop:
                    digit = text[i] - np.uint8(48)
                    if digit > 9:
                        break
                    power = power * 10 + np.int64(digit)
                    i += 1
                well = 0 < i - first_digit <= 4
                exponent += -power if minus else power
            if i < stop and text[i] != delimiter:
                well = False
            # 2^53: beyond it the mantissa itself is rounded
            if well and mantissa <= np.uint64(9007199254740992) and -22 <= exponent <= 22:
                value = np.float64(mantissa)
                if exponent < 0:
                    value /= _POWERS_OF_TEN[-exponent]
                elif exponent > 0:
                    value *= _POWERS_OF_TEN[exponent]
                if sign < 0 and value > 0:
                    value = -value
                    if negative < 0:
                        negative = column
                if abs(value) > _FLOAT32_MAX:
                    well = False
                else:
                    out[target[column]] = value
            else:
                well = False
            if not well:
                while i < stop and text[i] != delimiter:
                    i += 1
                odd[n_odd, 0] = column
                odd[n_odd, 1] = begin
                odd[n_odd, 2] = i
                n_odd += 1
        column += 1
        if i >= stop:
            return column, n_odd, negative
        i += 1


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def transpose_into(block_gn: np.ndarray, out_ng: np.ndarray, first: int) -> None:
    """Write ``block_gn`` transposed to the columns of ``out_ng`` from ``first`` on, in tiles that fit the cache."""
    genes, samples = block_gn.shape
    for tile in range(0, samples, 32):
        for sample in range(tile, min(tile + 32, samples)):
            for gene in range(genes):
                out_ng[sample, first + gene] = block_gn[gene, sample]


def parse_number(token: bytes) -> float:
    """Parse one token that the compiled loop left over.

    Parameters
    ----------
    token
        Bytes between two delimiters; spaces and one pair of quotes around it are ignored.

    Returns
    -------
    float
        Finite in single precision.

    Raises
    ------
    ValueError
        Says what the token is instead of a number.

    Examples
    --------
    >>> parse_number(b' "1.5e3" ')
    1500.0
    >>> parse_number(b"3,14")
    Traceback (most recent call last):
    ...
    ValueError: '3,14' has a decimal comma; write decimal points
    """
    text = token.decode("utf-8", errors="replace").strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1].strip()
    shown = repr(text if len(text) <= 40 else text[:37] + "...")
    bare = text.lower()
    if bare in _MISSING:
        raise ValueError(f"{shown} is a missing value; remove the gene or the sample, or fill it in")
    if bare.lstrip("+-") in _INFINITE:
        raise ValueError(f"{shown} is infinite; only finite values are allowed")
    if not _NUMBER.fullmatch(text):
        if _NUMBER.fullmatch(text.replace(",", ".")):
            raise ValueError(f"{shown} has a decimal comma; write decimal points")
        raise ValueError(f"{shown} is not a number")
    value = float(text)
    if abs(value) > _FLOAT32_MAX:
        raise ValueError(f"{shown} does not fit single precision")
    return value


def is_text(field: str) -> bool:
    """Tell words from numbers, badly written and missing numbers included.

    >>> is_text("TSPAN6"), is_text("1e-5"), is_text("3,14"), is_text("NA")
    (True, False, False, False)
    """
    bare = field.strip().lower()
    return not (
        bare in _MISSING or bare.lstrip("+-") in _INFINITE or _NUMBER.fullmatch(bare.replace(",", ".", 1)) is not None
    )
