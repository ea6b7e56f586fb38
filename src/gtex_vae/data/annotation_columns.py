"""Names and types of annotation columns: one table for annotation files, AnnData and single cells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

# Our name -> the names that other sources use, the preferred one first: the GTEx portal, dbGaP (v6: GENDER), Xena,
# single-cell AnnData. Case does not matter; spaces, dots and hyphens count as underscores.
COLUMN_NAMES = {
    "donor": (
        "donor", "donor_id", "individual", "indiv", "individual_id", "subject", "subject_id", "subjid",
        "patient", "patient_id", "participant", "participant_id",
    ),
    "tissue": ("tissue", "smtsd", "tissue_detail", "detailed_category"),
    "tissue_group": ("tissue_group", "smts", "_primary_site"),
    "sex": ("sex", "gender", "_gender"),
    "age": ("age",),
    "rin": ("rin", "smrin"),
    "ischemic_time": ("ischemic_time", "smtsisch"),
    "batch": ("batch", "smgebtch"),
    "freeze": ("freeze", "smafrze"),
    "hardy": ("hardy", "dthhrdy"),
    "sample_type": ("sample_type", "_sample_type"),
    "study": ("study", "_study"),
    "disease_or_tissue": ("disease_or_tissue", "primary_disease_or_tissue"),
}  # fmt: skip
CELL_TYPE_NAMES = (
    "cell_type", "celltype", "cell_types", "cell_label", "predicted_celltype_l2", "predicted_celltype", "celltype_l2",
    "majority_voting",
)  # fmt: skip
OBS = ("donor", "tissue", "tissue_group", "sex", "age")  # every processed AnnData has these, missing or not
NUMERIC = {"rin", "ischemic_time"}
SEX = {"1": "male", "m": "male", "male": "male", "2": "female", "f": "female", "female": "female"}
MISSING = frozenset(
    ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "not reported", "Not Reported", "[Not Available]")
)


def column_named(columns: Iterable[Any], names: Sequence[str]) -> Any | None:
    """Return the column that has one of the names, the earliest name first; None if there is no such column.

    >>> column_named(["Cell.Type", "Patient ID", "donor"], COLUMN_NAMES["donor"])
    'donor'
    """
    by_spelling = {_spelling(column): column for column in reversed(list(columns))}
    return next((by_spelling[name] for name in names if name in by_spelling), None)


def rename_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Rename the columns that `COLUMN_NAMES` lists; of several columns with one meaning, keep the preferred one.

    >>> list(rename_columns(pd.DataFrame(columns=["SMTSD", "GENDER", "SEX", "Age", "Patient ID", "SMRDLGTH"])))
    ['tissue', 'sex', 'age', 'donor', 'SMRDLGTH']
    """
    frame = frame.loc[:, ~frame.columns.duplicated()]
    renamed, dropped = {}, []
    for ours, names in COLUMN_NAMES.items():
        found = column_named(frame.columns, names)
        if found is not None:
            renamed[found] = ours
            dropped += [name for name in frame.columns if _spelling(name) in names and name != found]
    return frame.drop(columns=dropped).rename(columns=renamed).rename(columns=str)


def _spelling(column: Any) -> str:
    return re.sub(r"[\s.-]+", "_", str(column).strip().lower())


def convert_types(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Convert text columns to their types.

    Parameters
    ----------
    frame
        Text columns under our names; missing values are None.

    Returns
    -------
    frame
        ``tissue``, ``tissue_group``, ``batch``, ``donor``, ``hardy`` and other text as categories; ``sex``
        as male or female; ``age`` as numbers, or as ordered decades such as 20-29; ``rin`` and ``ischemic_time``
        (minutes) as numbers, and so every other column that contains only numbers.
    unrecognized
        Column to values that were set to missing because they are not recognized.
    """
    out, unrecognized = {}, {}
    for name in frame.columns:
        text = frame[name]
        if name == "sex":
            value = text.str.lower().str.removesuffix(".0").map(SEX)
            out[name] = pd.Series(pd.Categorical(value, categories=["female", "male"]), index=frame.index)
        elif name == "hardy":
            out[name] = text.str.removesuffix(".0").astype("category")
        elif name in NUMERIC:
            out[name] = pd.to_numeric(text, errors="coerce").astype("float32")
        elif name in COLUMN_NAMES and name != "age":
            out[name] = text.astype("category")
        else:
            out[name] = _numbers_or_categories(text, ordered=name == "age")
        if strange := sorted(set(text[out[name].isna() & text.notna()])):
            unrecognized[str(name)] = strange
    return pd.DataFrame(out, index=frame.index), unrecognized


def _numbers_or_categories(text: pd.Series[Any], ordered: bool) -> pd.Series[Any]:
    """Convert to numbers if every value is one, else to categories."""
    numbers = pd.to_numeric(text, errors="coerce")
    if text.notna().any() and numbers.notna().equals(text.notna()):
        return numbers.astype("float32")
    categories = sorted(set(text.dropna()))
    return pd.Series(pd.Categorical(text, categories=categories, ordered=ordered), index=text.index)


def to_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Convert typed columns, such as an AnnData's, to the text that `convert_types` takes."""
    columns = {}
    for name in frame.columns:
        values = frame[name].astype(object)
        text = values.map(str)
        columns[name] = text.where(values.notna() & ~text.isin(list(MISSING)), None)
    return pd.DataFrame(columns, index=frame.index, dtype=object)
