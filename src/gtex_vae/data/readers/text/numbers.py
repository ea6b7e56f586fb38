"""Fast parsing of decimal text to float32: a compiled loop for plain numbers, Python for all other tokens.

With a mantissa within 2^53 and a power of ten within 10^22, one operation in double precision is exactly rounded
(Clinger 1990). With more digits it errs by a few units in the last place of a double, which changes the float32 only
next to the midpoint of two neighbouring floats. The compiled loop leaves those tokens to Python, so that every result
is correct to the last bit.
"""

from __future__ import annotations

import re

import numba
import numpy as np

_POWERS_OF_TEN = np.array([float(f"1e{power}") for power in range(39)])
_EXACT = np.uint64(1 << 53)
# a double has 29 bits more than single precision: midpoint of two neighbours, and a margin of 16 units around it
_MIDDLE = 1 << 28
_BELOW_SINGLE = (1 << 29) - 1
_MARGIN = 16
# 19 digits always fit 64 bits
_MOST_DIGITS = np.uint64(19)
_FLOAT32_TINY = float(np.finfo(np.float32).tiny)
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
_MISSING = {"", "na", "nan", "n/a", "#n/a", "null", "none", "-", ".", "?"}
_INFINITE = {"inf", "infinity"}


def _parse_values(
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
        Bytes, uint8, with at least one byte after ``stop``.
    start, stop
        First byte of the first value, and position of the line end.
    delimiter
        Byte that separates values.
    target
        int32, one per expected value: its place in ``out``, or -1 to skip it unparsed.
    out
        float32, filled in place.
    odd
        int64, (values, 3): column, start and stop of each token that is left to Python, filled in place.

    Returns
    -------
    found : int
        Values in the line; the line is ragged if they are more or fewer than expected.
    n_odd : int
        Number of rows of ``odd`` that were filled.
    negative : int
        Column of the first negative value, or -1.
    """
    # with unsigned positions the compiled code need not test for negative ones; the line end is not a digit, sign,
    # point or exponent, so only loops over other bytes must test for it
    one = np.uint64(1)
    expected = target.shape[0]
    end = np.uint64(stop)
    i = np.uint64(start)
    column = 0
    n_odd = 0
    negative = -1
    while True:
        begin = i
        plain = False
        if column < expected and target[column] >= 0:
            minus = text[i] == 45
            if minus or text[i] == 43:
                i += one
            mantissa = np.uint64(0)
            first = i
            while True:
                digit = np.uint64(text[i]) - np.uint64(48)
                if digit > np.uint64(9):
                    break
                mantissa = mantissa * np.uint64(10) + digit
                i += one
            digits = i - first
            exponent = np.int64(0)
            if text[i] == 46:
                i += one
                first = i
                while True:
                    digit = np.uint64(text[i]) - np.uint64(48)
                    if digit > np.uint64(9):
                        break
                    mantissa = mantissa * np.uint64(10) + digit
                    i += one
                exponent = -np.int64(i - first)
                digits += i - first
            if digits > np.uint64(0) and (text[i] == 101 or text[i] == 69):
                i += one
                down = text[i] == 45
                if down or text[i] == 43:
                    i += one
                power = np.int64(0)
                first = i
                while True:
                    digit = np.uint64(text[i]) - np.uint64(48)
                    if digit > np.uint64(9):
                        break
                    power = power * 10 + np.int64(digit) if power < 1000 else power
                    i += one
                if i == first:
                    digits = np.uint64(0)
                exponent += -power if down else power
            if digits > _MOST_DIGITS:
                lead = begin
                while text[lead] < 49 or text[lead] > 57:
                    digits -= np.uint64(text[lead] == 48)
                    lead += one
                    if digits <= _MOST_DIGITS:
                        break
            plain = bool(
                (i == end or text[i] == delimiter)
                and np.uint64(0) < digits <= _MOST_DIGITS
                and -38 <= exponent <= 38
            )
            if plain:
                value = np.float64(mantissa)
                if exponent < 0:
                    value /= _POWERS_OF_TEN[np.uint64(-exponent)]
                elif exponent > 0:
                    value *= _POWERS_OF_TEN[np.uint64(exponent)]
                if minus:
                    value = -value
                    if value < 0 and negative < 0:
                        negative = column
                out[np.uint64(target[column])] = value
                if mantissa > _EXACT or exponent < -22 or exponent > 0:
                    middle = abs((np.float64(value).view(np.int64) & _BELOW_SINGLE) - _MIDDLE)
                    plain = bool(middle > _MARGIN and _FLOAT32_TINY <= abs(value) <= _FLOAT32_MAX)
        if not plain:
            while i < end and text[i] != delimiter:
                i += one
            if column < expected and target[column] >= 0:
                odd[n_odd, 0] = column
                odd[n_odd, 1] = begin
                odd[n_odd, 2] = i
                n_odd += 1
        column += 1
        if i >= end:
            return column, n_odd, negative
        i += one


try:
    parse_values = numba.njit(nogil=True, cache=True)(_parse_values)
except RuntimeError:
    # neither the package's folder nor the user's is writable: compile in each process
    parse_values = numba.njit(nogil=True)(_parse_values)


def parse_number(token: bytes | bytearray) -> float:
    """Parse one token that the compiled loop left to Python.

    Parameters
    ----------
    token
        Bytes between two delimiters; surrounding spaces and one pair of quotes are ignored.

    Returns
    -------
    float
        Finite in single precision.

    Raises
    ------
    ValueError
        The token is not a finite number; the message says what it is.

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
        if _THOUSANDS.fullmatch(text):
            if "." in text:
                raise ValueError(f"{shown} has a thousands separator; write {text.replace(',', '')}")
            raise ValueError(
                f"{shown} has a thousands separator or a decimal comma; write {text.replace(',', '')} or "
                f"{text.replace(',', '.')}"
            )
        if _NUMBER.fullmatch(text.replace(",", ".")):
            raise ValueError(f"{shown} has a decimal comma; write decimal points")
        raise ValueError(f"{shown} is not a number")
    value = float(text)
    if abs(value) > _FLOAT32_MAX:
        raise ValueError(f"{shown} does not fit single precision")
    return value


def is_text(field: str) -> bool:
    """Check whether a field is a word rather than a number; badly written and missing numbers are not words.

    >>> is_text("TSPAN6"), is_text("1e-5"), is_text("3,14"), is_text("NA")
    (True, False, False, False)
    """
    bare = field.strip().lower()
    return not (
        bare in _MISSING
        or bare.lstrip("+-") in _INFINITE
        or _NUMBER.fullmatch(bare.replace(",", ".", 1)) is not None
    )
