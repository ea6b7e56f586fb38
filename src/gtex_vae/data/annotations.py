"""What is known of each sample: GTEx, Xena and any other table, made into typed columns.

Missing stays missing: no value is invented, and samples without a row are kept and counted.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from gtex_vae.errors import DataError

# the portal's, dbGaP's (v6: GENDER), Xena's and common names, lower case -> ours
COLUMNS = {
    "smtsd": "tissue",
    "smts": "tissue_group",
    "smrin": "rin",
    "smtsisch": "ischemic_time",
    "smgebtch": "batch",
    "smafrze": "freeze",
    "gender": "sex",
    "dthhrdy": "hardy",
    "subjid": "donor",
    "subject": "donor",
    "subject_id": "donor",
    "donor_id": "donor",
    "individual": "donor",
    "indiv": "donor",
    "tissue_detail": "tissue",
    "detailed_category": "tissue",
    "_primary_site": "tissue_group",
    "_gender": "sex",
    "_sample_type": "sample_type",
    "_study": "study",
    "primary disease or tissue": "disease_or_tissue",
}
OURS = {*COLUMNS.values(), "age"}
NUMERIC = {"rin", "ischemic_time"}
SEX = {"1": "male", "m": "male", "male": "male", "2": "female", "f": "female", "female": "female"}
MISSING = [
    "",
    "NA",
    "N/A",
    "NaN",
    "nan",
    "null",
    "NULL",
    "None",
    "not reported",
    "Not Reported",
    "[Not Available]",
]
# samples that GTEx put into its RNA-seq analysis: RNASEQ since v7, "USE ME" up to v6
FREEZE = ("RNASEQ", "USE ME")
_GTEX = re.compile(r"(GTEX-[A-Z0-9]+)(?:-|$)")
_TCGA = re.compile(r"((?:TCGA|TARGET)-[A-Z0-9]+-[A-Z0-9]+)(?:-|$)")
# K-562-SM-2AXVE, a cell line grown beside the donors' samples: whatever stands before its SM number
_OTHER = re.compile(r"([A-Za-z0-9]+(?:-[A-Za-z0-9]+)*?)(?:-\d{4})?-SM-[A-Z0-9]+")


def donor_of(sample: str) -> str | None:
    """Donor in a sample id of GTEx, TCGA or TARGET; a cell line such as K-562 counts as one donor.

    Examples
    --------
    >>> donor_of("GTEX-1117F-0226-SM-5GZZ7"), donor_of("K-562-SM-26GMQ"), donor_of("TCGA-19-1787-01")
    ('GTEX-1117F', 'K-562', 'TCGA-19-1787')
    >>> donor_of("patient 7") is None
    True
    """
    text = sample.strip().replace(".", "-").upper()
    for pattern in (_GTEX, _TCGA):
        if found := pattern.match(text):
            return found[1]
    found = _OTHER.fullmatch(text)
    return found[1] if found else None


def is_cell_line(sample: str) -> bool:
    """Whether a GTEx-like sample id belongs to no donor but to a cell line (K-562).

    >>> is_cell_line("K-562-SM-26GMQ"), is_cell_line("GTEX-1117F-0226-SM-5GZZ7")
    (True, False)
    """
    text = sample.upper()
    return not _GTEX.match(text) and not _TCGA.match(text) and _OTHER.fullmatch(text) is not None


def read_table(path: Path | str) -> pd.DataFrame:
    """Read a delimited text table, plain or gzipped, every value as text; parquet as it is.

    Parameters
    ----------
    path
        Tab, comma or semicolon separated, as its header line shows; UTF-8 or Latin-1.

    Raises
    ------
    DataError
        The file cannot be read, is empty, or has a single column or ragged lines.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if content[:4] == b"PAR1":
            return pd.read_parquet(path).astype("string").astype(object)
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or cut short ({error}): fetch it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    # dbGaP puts comment lines and a blank one before the header
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) < 2:
        raise DataError(f"{path}: no rows below a header line")
    separator = max("\t,;", key=lines[0].count)
    if lines[0].count(separator) == 0:
        raise DataError(f"{path}: its header has one column: {lines[0][:60]!r}; use tabs or commas")
    # the portal's files hold stray double quotes in free text, which are no quoting
    quoting: Literal[0, 3] = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    rows = list(csv.reader(lines, delimiter=separator, quoting=quoting))
    header = [name.strip().strip('"') for name in rows[0]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) > len(header) and any(row[len(header) :]):
            raise DataError(f"{path}: row {number} has {len(row)} fields, its header {len(header)}")
    width = len(header)
    padded = [(row + [""] * width)[:width] for row in rows[1:]]
    missing = set(MISSING)
    cells = [[None if (cell := field.strip()) in missing else cell for field in row] for row in padded]
    return pd.DataFrame(cells, columns=header, dtype=object)


def find_id_column(frame: pd.DataFrame, ids: Sequence[str], path: Path | str) -> str:
    """Column that holds the sample (or donor) ids: the one that shares most with them.

    Raises
    ------
    DataError
        No column holds any of the ids.
    """
    wanted = set(ids)
    shared = {name: len(wanted.intersection(frame[name].dropna())) for name in frame.columns}
    best = max(shared, key=lambda name: shared[name])
    if shared[best] == 0:
        raise DataError(
            f"{path}: no column holds any of the {len(ids)} ids ({', '.join(list(ids)[:2])}...); "
            f"it has {', '.join(map(str, frame.columns[:6]))}"
        )
    return str(best)


def with_our_names(frame: pd.DataFrame) -> pd.DataFrame:
    """Rename the columns of GTEx (any release) and Xena; where two get one name, the first stands.

    >>> list(with_our_names(pd.DataFrame(columns=["SMTSD", "GENDER", "SEX", "Age", "SMRDLGTH"])))
    ['tissue', 'sex', 'age', 'SMRDLGTH']
    """
    lower = {name: str(name).strip().lower() for name in frame.columns}
    names = {name: COLUMNS.get(low, low if low in OURS else str(name)) for name, low in lower.items()}
    renamed = frame.rename(columns=names)
    return renamed.loc[:, ~renamed.columns.duplicated()]


def typed(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Give text columns their types.

    Parameters
    ----------
    frame
        Text columns in our names; missing values are None.

    Returns
    -------
    frame
        ``tissue``, ``tissue_group``, ``batch``, ``donor``, ``hardy`` and other text as categories; ``sex``
        as male or female; ``age`` as number, or ordered decades such as 20-29; ``rin`` and ``ischemic_time``
        (minutes) as numbers, and so every other column that holds nothing but numbers.
    misunderstood
        Column to values that became missing because they mean nothing known.
    """
    out, misunderstood = {}, {}
    for name in frame.columns:
        text = frame[name]
        if name == "sex":
            value = text.str.lower().str.removesuffix(".0").map(SEX)
            out[name] = pd.Series(pd.Categorical(value, categories=["female", "male"]), index=frame.index)
        elif name == "hardy":
            out[name] = text.str.removesuffix(".0").astype("category")
        elif name in NUMERIC:
            out[name] = pd.to_numeric(text, errors="coerce").astype("float32")
        elif name in OURS - {"age"}:
            out[name] = text.astype("category")
        else:
            out[name] = _number_or_category(text, ordered=name == "age")
        if strange := sorted(set(text[out[name].isna() & text.notna()])):
            misunderstood[str(name)] = strange
    return pd.DataFrame(out, index=frame.index), misunderstood


def _number_or_category(text: pd.Series[Any], ordered: bool) -> pd.Series[Any]:
    """Numbers where every value is one, else categories."""
    numbers = pd.to_numeric(text, errors="coerce")
    if text.notna().any() and numbers.notna().equals(text.notna()):
        return numbers.astype("float32")
    categories = sorted(set(text.dropna()))
    return pd.Series(pd.Categorical(text, categories=categories, ordered=ordered), index=text.index)


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Turn typed columns, such as an AnnData's, into the text that :func:`typed` reads."""
    columns = {}
    for name in frame.columns:
        values = frame[name].astype(object)
        text = values.map(str)
        columns[name] = text.where(values.notna() & ~text.isin(MISSING), None)
    return pd.DataFrame(columns, index=frame.index, dtype=object)


def _fill(obs: pd.DataFrame, found: pd.DataFrame) -> None:
    """Add columns, and values where there were none yet, in place."""
    for name in found.columns:
        obs[name] = obs[name].where(obs[name].notna(), found[name]) if name in obs else found[name]


def annotate(
    samples: Sequence[str],
    tables: Sequence[Path | str],
    *,
    own: pd.DataFrame | None = None,
    freeze: Sequence[str] = FREEZE,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Join annotation tables to samples.

    Each table is joined by whichever column holds the sample ids, or else the donor ids (SubjectPhenotypes).

    Parameters
    ----------
    samples
        Sample ids in the order of the matrix.
    tables
        Files: SampleAttributesDS and SubjectPhenotypesDS of GTEx v6 to v11, Xena's TcgaTargetGTEX_phenotype,
        or any table with an id column. Where two give the same column, the first that has a value wins; a
        donor that none gives is read from the sample id.
    own
        Annotations that the matrix brought along, in its order; they come before the tables.
    freeze
        Values of SMAFRZE that belong to the expression data; ``in_freeze`` says so where the column exists.

    Returns
    -------
    obs
        One row per sample, ``donor`` first.
    report
        Per table the id column and the samples found; samples without annotation; values misunderstood.

    Raises
    ------
    DataError
        A table cannot be read or shares no id with the samples, or the sample ids are not unique.
    """
    index = pd.Index([str(sample) for sample in samples], name="sample", dtype=object)
    if index.has_duplicates:
        repeated = index[index.duplicated()].unique()
        raise DataError(f"{len(repeated)} sample ids are not unique: {', '.join(repeated[:3])}")
    guess = pd.DataFrame({"donor": [donor_of(sample) for sample in index]}, index=index, dtype=object)
    obs = pd.DataFrame({"donor": None}, index=index, dtype=object)
    report: dict[str, Any] = {"tables": {}, "misunderstood": {}}
    annotated = np.zeros(len(index), dtype=bool)
    if own is not None and len(own.columns):
        text = with_our_names(as_text(own).set_axis(index))
        _fill(obs, text)
        annotated |= text.notna().any(axis=1).to_numpy()
    for path in tables:
        frame = read_table(path)
        donors = obs["donor"].where(obs["donor"].notna(), guess["donor"])
        key = find_id_column(frame, [*index, *donors.dropna().unique()], path)
        rows = with_our_names(frame.dropna(subset=[key]).drop_duplicates(key).set_index(key))
        by_sample = bool(rows.index.isin(index).any())
        keys = index if by_sample else pd.Index(donors)
        _fill(obs, rows.reindex(keys).set_axis(index))
        joined = keys.isin(rows.index)
        annotated |= joined
        report["tables"][Path(path).name] = {
            "id_column": key,
            "joined_by": "sample" if by_sample else "donor",
            "rows": len(frame),
            "samples_found": int(joined.sum()),
        }
    _fill(obs, guess)
    obs, report["misunderstood"] = typed(obs)
    if "freeze" in obs:
        obs["in_freeze"] = obs["freeze"].isin(list(freeze))
    cell_lines = [sample for sample in index if is_cell_line(sample)]
    bare = index[~annotated]
    report["without_annotation"] = {"count": len(bare), "examples": list(bare[:10])}
    report["without_donor"] = int(obs["donor"].isna().sum())
    report["cell_lines"] = {"count": len(cell_lines), "examples": cell_lines[:10]}
    report["missing"] = {name: int(obs[name].isna().sum()) for name in obs.columns}
    return obs, report
