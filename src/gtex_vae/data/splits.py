"""Split of samples into train, val and test, each donor in one of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from gtex_vae.errors import SplitError

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
NAMED = 10  # samples named in a warning

# Weights of the size of a split relative to its tissues, tried in order: with few donors of many tissues, balance by
# tissue alone can leave a small split nearly empty.
SIZE_WEIGHTS = (0.0, 0.05, 1.0)


def split_samples(
    donor: Iterable[str],
    tissue: Iterable[str],
    *,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    by: Literal["donor", "sample"] = "donor",
) -> np.ndarray:
    """Assign whole donors to train, val or test, stratified by tissue as well as possible.

    Donors are placed one at a time, those with most samples first (ties in an order drawn from ``seed``), each into
    the split that minimizes the sum of squared deviations of tissue counts from their targets, relative to the size of
    the tissue. If a split then has less than half of its share, as with few donors of many tissues, the size of the
    splits is weighted too. Stratification of whole groups is a bin-packing problem; this greedy rule is approximate.

    Parameters
    ----------
    donor, tissue
        One value per sample.
    val, test
        Fractions of the samples to hold out; the others are for training.
    seed
        Seed of the split only, so that runs with different training seeds share a split.
    by
        ``donor``; or ``sample``, which lets donors leak across splits (only for comparison with published figures).

    Returns
    -------
    numpy.ndarray
        Array of ``"train"``, ``"val"`` or ``"test"``, one per sample.

    Raises
    ------
    SplitError
        The fractions are impossible, a donor is missing in a split by donor, or a split would be empty.

    References
    ----------
    scikit-learn's ``StratifiedGroupKFold`` uses the same greedy rule for equal fractions.

    Examples
    --------
    >>> split_samples(["a", "a", "b", "c"], ["lung"] * 4, val=0.25, test=0.25).tolist()
    ['train', 'train', 'test', 'val']
    """
    check_fractions(val, test)
    donor_series = pd.Series(list(donor), dtype="object")
    if by == "donor" and donor_series.isna().any():
        n_missing = int(donor_series.isna().sum())
        alternative = (
            "; if every sample is from a different donor, set data.split_by=sample"
            if n_missing == len(donor_series)
            else ""
        )
        raise SplitError(
            f"{n_missing} samples have no donor, which a split by donor requires: give "
            f"data.prepare.annotations=[TABLE] with a column donor{alternative}"
        )
    group = np.arange(len(donor_series)) if by == "sample" else donor_series.factorize()[0]
    tissue_code, tissues = pd.factorize(pd.Series(list(tissue), dtype="object").fillna("unknown"))
    counts_dt = np.zeros((group.max() + 1, len(tissues)))
    np.add.at(counts_dt, (group, tissue_code), 1.0)
    if len(counts_dt) < len(SPLITS):
        raise SplitError(f"{len(counts_dt)} donor(s) cannot fill three splits: at least 3 are needed")

    rng = np.random.default_rng(seed)
    order = rng.permutation(len(counts_dt))
    order = order[np.argsort(-counts_dt[order].sum(1), kind="stable")]
    fractions = np.array([1.0 - val - test, val, test])
    for size_weight in SIZE_WEIGHTS:
        chosen = _place(counts_dt, order, fractions, size_weight)
        share_s = np.bincount(chosen[group], minlength=len(SPLITS)) / len(group)
        if (share_s >= 0.5 * fractions).all():
            break
    assigned = np.array(SPLITS)[chosen[group]]
    check_split(assigned, donor_series, by=by)
    return assigned


def _place(counts_dt: np.ndarray, order: np.ndarray, fractions: np.ndarray, size_weight: float) -> np.ndarray:
    """Return the split number of each donor, placing donors in the given order."""
    n_tissues = counts_dt.shape[1]
    # one more column: the size of the split
    counts_dt = np.column_stack([counts_dt, counts_dt.sum(1)])
    total_t = counts_dt.sum(0)
    weight_t = 1.0 / total_t
    weight_t[-1] *= size_weight * n_tissues
    filled_st = np.zeros((len(SPLITS), n_tissues + 1))
    chosen = np.empty(len(counts_dt), dtype=int)
    for d in order:
        # adding c to a split changes its squared deviation by c (2 (filled - target) + c)
        gap_st = 2.0 * (filled_st - fractions[:, None] * total_t) + counts_dt[d]
        cost_s = (counts_dt[d] * gap_st * weight_t).sum(1) / fractions
        chosen[d] = int(np.argmin(cost_s))
        filled_st[chosen[d]] += counts_dt[d]
    return chosen


def fill_donors(donor: pd.Series, *, warn: bool = False) -> pd.Series:
    """Give each sample without a donor a donor of its own, named after the sample; unchanged if no sample has one.

    Parameters
    ----------
    donor
        Donor of each sample, indexed by sample id.
    warn
        Log a warning that names the samples.

    Examples
    --------
    >>> fill_donors(pd.Series(["a", None], index=["s1", "s2"])).tolist()
    ['a', 's2']
    """
    missing = donor.isna()
    if not missing.any() or missing.all():
        return donor
    alone = donor.index[missing].astype(str)
    if warn:
        log.warning(
            "%d samples have no donor, so each is treated as a donor of its own: %s. If some are of a donor in the data, "
            "add the donors (data.prepare.annotations=[TABLE]) or remove the samples (data.prepare.blacklist=[ID,...]): "
            "otherwise that donor may be in two splits",
            len(alone), ", ".join(alone[:NAMED]) + (", ..." if len(alone) > NAMED else ""),
        )  # fmt: skip
    own = pd.Series(donor.index.astype(str), index=donor.index)
    return donor.astype(object).where(~missing, own).astype("category")


def check_fractions(val: float, test: float) -> None:
    """Check that the fractions leave samples for each of the three splits.

    Raises
    ------
    SplitError
        The message names both.
    """
    if not (0.0 < val < 1.0 and 0.0 < test < 1.0 and val + test < 1.0):
        raise SplitError(f"data.val={val} and data.test={test} must be positive and add up to less than 1")


def check_split(split: np.ndarray, donor: Iterable[str], *, by: Literal["donor", "sample"]) -> None:
    """Check that no split is empty and, in a split by donor, that no donor is in two of them.

    Raises
    ------
    SplitError
        The message names the split or the donor.
    """
    for name in SPLITS:
        if not (split == name).any():
            raise SplitError(f"the {name} split is empty: too few donors for data.val and data.test")
    if by == "donor":
        parts = pd.Series(split).groupby(np.asarray(list(donor), dtype=object)).nunique()
        if (parts > 1).any():
            leaked = parts.index[parts > 1]
            raise SplitError(
                f"donor {leaked[0]} is in more than one split ({len(leaked)} such donors): "
                "metrics would be too optimistic; move all samples of a donor to one split in data.splits"
            )


def read_splits(path: str | Path, sample_ids: Sequence[str]) -> np.ndarray:
    """Read a user's ``splits.csv`` (columns ``sample`` and ``split``) in the order of the samples.

    Raises
    ------
    SplitError
        The file or a column is missing, a split has an unknown name, or a sample is missing or listed twice.
    """
    try:
        table = pd.read_csv(path, dtype=str)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise SplitError(f"data.splits={path} cannot be read: {str(error).strip()}") from error
    for column in ("sample", "split"):
        if column not in table:
            raise SplitError(f"{path} has no column {column!r}, only {', '.join(table.columns)}")
    unknown = set(table["split"].dropna()) - set(SPLITS)
    if unknown or table["split"].isna().any():
        raise SplitError(f"{path}: split {sorted(unknown) or 'missing'} is not one of {', '.join(SPLITS)}")
    if table["sample"].duplicated().any():
        raise SplitError(f"{path} lists sample {table['sample'][table['sample'].duplicated()].iloc[0]} twice")
    split = table.set_index("sample")["split"].reindex(list(sample_ids))
    if split.isna().any():
        missing = split.index[split.isna()]
        raise SplitError(f"{path} has no row for {len(missing)} samples of the matrix, such as {missing[0]}")
    return split.to_numpy(dtype=object).astype(str)
