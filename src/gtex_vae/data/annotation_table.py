"""Reader of annotation tables: delimited text or parquet, as pandas, R, dbGaP and the GTEx portal write them."""

from __future__ import annotations

import csv
import gzip
import re
from pathlib import Path
from typing import Literal

import pandas as pd

from gtex_vae.data.annotation_columns import MISSING
from gtex_vae.errors import DataError


def read_table(path: Path | str) -> pd.DataFrame:
    """Read a delimited text table, plain or gzipped, or parquet, every value as text.

    Parameters
    ----------
    path
        Separated by tabs, commas or semicolons, as its header line shows; UTF-8 or Latin-1. Comment lines that start
        with ``#`` are skipped, except a header such as ``#sample``. A header with one field less than the rows, as R
        writes it, gets a first column ``sample``.

    Raises
    ------
    DataError
        The file cannot be read, is empty, or has a single column or ragged lines.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if content[:4] == b"PAR1":
            return _read_parquet(path)
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or truncated ({error}); download or copy it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = _without_comments(text)
    if len(lines) < 2:
        raise DataError(f"{path}: no rows below a header line")
    separator = max("\t,;", key=lines[0].count)
    if lines[0].count(separator) == 0:
        raise DataError(f"{path}: its header has one column: {lines[0][:60]!r}; use tabs or commas")
    # The portal's tab-separated files have stray double quotes in free text: quotes count only if the header has them.
    quoted = separator != "\t" or lines[0].startswith('"')
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    rows = list(csv.reader(lines, delimiter=separator, quoting=quoting))
    header = [name.strip().strip('"') for name in rows[0]]
    if len(rows) > 2 and all(len(row) == len(header) + 1 and row[-1] for row in rows[1:]):
        header = ["sample", *header]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) > len(header) and any(row[len(header) :]):
            raise DataError(f"{path}: row {number} has {len(row)} fields, its header {len(header)}")
    width = len(header)
    padded = [(row + [""] * width)[:width] for row in rows[1:]]
    cells = [[None if (cell := field.strip()) in MISSING else cell for field in row] for row in padded]
    return pd.DataFrame(cells, columns=header, dtype=object)


def _read_parquet(path: Path) -> pd.DataFrame:
    frame = pd.read_parquet(path)
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    return frame.astype("string").astype(object).where(frame.notna(), None)


def _without_comments(text: str) -> list[str]:
    """Return the lines of the table, without blank lines and comments.

    dbGaP writes comments, a line ``##`` of variable ids and a blank line before the header. A header may itself start
    with ``#``: then it is the line directly above the rows and has their number of fields.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    first = next(
        (at for at, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines)
    )
    table = [line for line in lines[first:] if line.strip() and not line.startswith("#")]
    above = lines[first - 1] if 0 < first < len(lines) else ""
    if re.match(r"#\s?[^#\s]", above):
        separator = max("\t,;", key=above.count)
        if above.count(separator) and above.count(separator) == table[0].count(separator):
            table.insert(0, above[1:].lstrip())
    return table
