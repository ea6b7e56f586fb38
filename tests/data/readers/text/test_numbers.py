"""The compiled parser agrees with Python to the last bit, and leaves odd tokens to it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtex_vae.data.readers.text.numbers import parse_number, parse_values


def parse(
    tokens: list[str], delimiter: str = "\t", skip: tuple[int, ...] = ()
) -> tuple[np.ndarray, set[int], int]:
    """Parse a line; return values, the columns left to Python, and the first negative column."""
    line = delimiter.join(tokens).encode()
    out = np.full(len(tokens), np.nan, np.float32)
    odd = np.empty((len(tokens), 3), np.int64)
    target = np.array([-1 if at in skip else at for at in range(len(tokens))], np.int32)
    text = np.frombuffer(line + b"\n", np.uint8)
    found, n_odd, negative = parse_values(text, 0, len(line), ord(delimiter), target, out, odd)
    assert found == len(tokens)
    for column, start, stop in odd[:n_odd].tolist():
        assert line[start:stop].decode() == tokens[column]
        out[column] = parse_number(line[start:stop])
    return out, set(odd[:n_odd, 0].tolist()), negative


FINITE = st.floats(-1e38, 1e38, allow_nan=False)
TOKENS = st.one_of(
    FINITE.map(repr),
    FINITE.map("{:.4g}".format),
    FINITE.map("{:.19E}".format),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.integers(0, 10**25).map(str),
    st.integers(0, 10**6).map("0.0000000000000000000{}".format),
    st.sampled_from(
        ["0", "-0", "+1.5", ".5", "5.", "00012", "1e-45", "1E+05", "9007199254740993", "16777217.0"]
    ),
)


@settings(deadline=None)
@given(st.lists(TOKENS, min_size=1, max_size=20))
def test_equals_the_interpreter(tokens: list[str]) -> None:
    expected = np.array([float(token) for token in tokens])
    out, _, negative = parse(tokens)
    np.testing.assert_array_equal(out, expected.astype(np.float32))
    below = np.flatnonzero(expected < 0)
    plain = [at for at in below.tolist() if float(tokens[at]) < 0]
    assert negative == -1 or negative in plain


@settings(deadline=None)
@given(st.floats(0, 1e6, width=32))
def test_midway_between_neighbours_rounds_as_the_interpreter(low: float) -> None:
    high = np.nextafter(np.float32(low), np.float32(np.inf))
    middle = (float(low) + float(high)) / 2
    token = f"{middle:.60f}".rstrip("0")
    for text in (token, token + "0000001", f"{middle:.17g}"):
        out, _, _ = parse([text])
        assert out[0] == np.float32(float(text))


@pytest.mark.parametrize(
    "token", ["0", "12", "3.14159", "0.0252", "1e-05", "31020000", "3.4594316186372973", "-9.9658"]
)
def test_what_matrices_hold_never_leaves_the_compiled_loop(token: str) -> None:
    _, odd, _ = parse(["1", token, "2"])
    assert not odd


@pytest.mark.parametrize(
    "token", ["", "NA", "1.2.3", "1e", "e5", "--1", "1 ", '"1"', ".", "0x1", "1e999", "nan"]
)
def test_what_is_no_plain_number_is_left_over(token: str) -> None:
    line = f"1\t{token}\t2".encode()
    odd = np.empty((3, 3), np.int64)
    out = np.zeros(3, np.float32)
    text = np.frombuffer(line + b"\n", np.uint8)
    found, n_odd, _ = parse_values(text, 0, len(line), 9, np.arange(3, dtype=np.int32), out, odd)
    assert (found, n_odd, odd[0].tolist()) == (3, 1, [1, 2, 2 + len(token)])
    assert out[2] == 2


def test_skipped_columns_are_not_looked_at() -> None:
    out, odd, _ = parse(["1", "banana", "3"], skip=(1,))
    assert out[0] == 1 and out[2] == 3 and np.isnan(out[1]) and not odd


@pytest.mark.parametrize(("tokens", "found"), [("1\t2", 2), ("1\t2\t3\t4\t5", 5), ("", 1), ("1\t2\t", 3)])
def test_ragged_lines_are_counted(tokens: str, found: int) -> None:
    text = np.frombuffer(tokens.encode() + b"\n", np.uint8)
    out, odd = np.zeros(3, np.float32), np.empty((3, 3), np.int64)
    assert parse_values(text, 0, len(tokens), 9, np.arange(3, dtype=np.int32), out, odd)[0] == found
