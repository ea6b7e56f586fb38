"""Join of annotations to samples: which donor, tissue, sex and age each sample has.

Missing values stay missing, and samples without a row are kept and counted.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gtex_vae.data.annotation_columns import convert_types, rename_columns, to_text
from gtex_vae.data.annotation_table import read_table
from gtex_vae.errors import DataError

log = logging.getLogger(__name__)

# SMAFRZE of the samples in GTEx's RNA-seq analysis: RNASEQ since v7, "USE ME" up to v6
FREEZE = ("RNASEQ", "USE ME")
_GTEX = re.compile(r"(GTEX-[A-Z0-9]+)(?:-|$)")
_TCGA = re.compile(r"((?:TCGA|TARGET)-[A-Z0-9]+-[A-Z0-9]+)(?:-|$)")
# K-562-SM-2AXVE: a cell line sequenced with the donors' samples, named before its SM number
_OTHER = re.compile(r"([A-Za-z0-9]+(?:-[A-Za-z0-9]+)*?)(?:-\d{4})?-SM-[A-Z0-9]+")


def donor_of(sample: str) -> str | None:
    """Return the donor named in a sample id of GTEx, TCGA or TARGET; a cell line such as K-562 counts as one donor.

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
    """Return whether a GTEx-like sample id belongs to a cell line (K-562) instead of a donor.

    >>> is_cell_line("K-562-SM-26GMQ"), is_cell_line("GTEX-1117F-0226-SM-5GZZ7")
    (True, False)
    """
    text = sample.upper()
    return not _GTEX.match(text) and not _TCGA.match(text) and _OTHER.fullmatch(text) is not None


def find_id_column(frame: pd.DataFrame, ids: Sequence[str], path: Path | str) -> str:
    """Find the column of sample (or donor) ids: the one that contains most of the given ids.

    Raises
    ------
    DataError
        No column contains any of the ids.
    """
    wanted = set(ids)
    shared = {name: len(wanted.intersection(frame[name].dropna())) for name in frame.columns}
    best = max(shared, key=lambda name: shared[name])
    if shared[best] == 0:
        raise DataError(
            f"{path}: no column contains any of the {len(ids)} ids ({', '.join(list(ids)[:2])}...); "
            f"its columns are {', '.join(map(str, frame.columns[:6]))}"
        )
    return str(best)


def annotate(
    samples: Sequence[str],
    tables: Sequence[Path | str],
    *,
    own: pd.DataFrame | None = None,
    freeze: Sequence[str] = FREEZE,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Join annotation tables to samples.

    Parameters
    ----------
    samples
        Sample ids in the order of the matrix.
    tables
        Files: SampleAttributesDS and SubjectPhenotypesDS of GTEx v6 to v11, Xena's TcgaTargetGTEX_phenotype,
        or any table with an id column. If several give the same column, the first value that is not missing is used.
        A donor that no table gives is taken from the sample id.
    own
        Annotations from the matrix file, in its order; they take precedence over the tables.
    freeze
        Values of SMAFRZE that belong to the expression data, for the column ``in_freeze``.

    Returns
    -------
    obs
        One row per sample, ``donor`` first.
    report
        Per table the id column and the number of samples found; samples without annotation; values not recognized.

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
        text = rename_columns(to_text(own).set_axis(index))
        _fill(obs, text)
        annotated |= text.notna().any(axis=1).to_numpy()
    for path in tables:
        joined, report["tables"][Path(path).name] = _join_table(obs, path, guess["donor"])
        annotated |= joined
    _fill(obs, guess)
    obs, report["misunderstood"] = convert_types(obs)
    if "freeze" in obs:
        obs["in_freeze"] = obs["freeze"].isin(list(freeze))
    cell_lines = [sample for sample in index if is_cell_line(sample)]
    bare = index[~annotated]
    report["without_annotation"] = {"count": len(bare), "examples": list(bare[:10])}
    report["without_donor"] = int(obs["donor"].isna().sum())
    report["cell_lines"] = {"count": len(cell_lines), "examples": cell_lines[:10]}
    report["missing"] = {name: int(obs[name].isna().sum()) for name in obs.columns}
    return obs, report


def _join_table(
    obs: pd.DataFrame, path: Path | str, guess: pd.Series[Any]
) -> tuple[npt.NDArray[np.bool_], dict[str, Any]]:
    """Add one table to ``obs`` in place, by the column of sample ids, or else of donor ids (SubjectPhenotypes).

    Returns
    -------
    joined
        Samples that have a row in the table.
    report
        Id column, rows, samples found.
    """
    frame = read_table(path)
    donors = obs["donor"].where(obs["donor"].notna(), guess)
    key = find_id_column(frame, [*obs.index, *donors.dropna().unique()], path)
    frame = frame.dropna(subset=[key])
    _warn_of_conflicts(frame, key, path)
    rows = rename_columns(frame.drop_duplicates(key).set_index(key))
    by_sample = bool(rows.index.isin(obs.index).any())
    keys = obs.index if by_sample else pd.Index(donors)
    _fill(obs, rows.reindex(keys).set_axis(obs.index))
    joined = keys.isin(rows.index)
    return joined, {
        "id_column": key,
        "joined_by": "sample" if by_sample else "donor",
        "rows": len(frame),
        "samples_found": int(joined.sum()),
    }


def _fill(obs: pd.DataFrame, found: pd.DataFrame) -> None:
    """Add columns, and values that were missing, in place."""
    for name in found.columns:
        obs[name] = obs[name].where(obs[name].notna(), found[name]) if name in obs else found[name]


def _warn_of_conflicts(frame: pd.DataFrame, key: str, path: Path | str) -> None:
    """Name the ids that have several rows with different values."""
    repeated = frame[frame[key].duplicated(keep=False)]
    different = repeated.groupby(key, sort=False).nunique(dropna=True) > 1
    conflicts = different[different.any(axis=1)]
    if len(conflicts):
        shown = [
            f"{label} ({', '.join(different.columns[row])})" for label, row in conflicts.head(5).iterrows()
        ]
        log.warning(
            "%s: %d ids have rows that disagree; the first row of each is used: %s%s",
            path, len(conflicts), "; ".join(shown), "; ..." if len(conflicts) > 5 else "",
        )  # fmt: skip
