"""Checks for leakage of held-out samples into training.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.data.preprocess.near_duplicates import near_duplicates
from gtex_vae.data.splits import SPLITS
from gtex_vae.data.standardize import Standardizer

CORRELATION = 0.98
ROUNDING = 1e-4


def audit(
    x_ng: NDArray[np.float32], obs: pd.DataFrame, scaler: Standardizer
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Check for leakage from held-out samples into the model.

    Parameters
    ----------
    x_ng
        Expression before standardizing, all samples, shape (n, g).
    obs
        Their annotations, with ``donor`` and ``split``.
    scaler
        Scaler of the model.

    Returns
    -------
    checks : DataFrame
        ``check``, ``passed`` and ``finding``, a sentence.
    pairs : DataFrame
        Nearly identical samples in different splits: ``sample``, ``other``, ``correlation``, ``split``,
        ``other_split``, ``same_donor``.
    """
    pairs = _pairs_across(x_ng, obs)
    checks = [_shared_donors(obs), _scaler_of_train(x_ng, obs, scaler)]
    found = (
        f"{len(pairs)} pairs of samples in different splits with profiles that correlate above {CORRELATION}"
    )
    checks.append(("near-duplicates across splits", pairs.empty, found))
    return pd.DataFrame(checks, columns=["check", "passed", "finding"]), pairs


def _shared_donors(obs: pd.DataFrame) -> tuple[str, bool, str]:
    """Check for donors in two splits."""
    donors = {split: set(obs.loc[obs["split"] == split, "donor"].dropna().astype(str)) for split in SPLITS}
    shared = {f"{a} and {b}": len(donors[a] & donors[b]) for a, b in combinations(SPLITS, 2)}
    finding = "; ".join(f"{count} donors in both {names}" for names, count in shared.items())
    return "donors in more than one split", not any(shared.values()), finding


def _scaler_of_train(
    x_ng: NDArray[np.float32], obs: pd.DataFrame, scaler: Standardizer
) -> tuple[str, bool, str]:
    """Check that the scaler was fitted to training samples only."""
    rows = np.flatnonzero(obs["split"] == "train")
    refitted = Standardizer(x_ng.shape[1], **scaler.settings).fit(x_ng, rows)
    distance = float(((refitted.center_g - scaler.center_g.cpu()).abs() / refitted.scale_g).max())
    stretch = float((scaler.scale_g.cpu() / refitted.scale_g - 1).abs().max())
    finding = (
        f"refitted to the {len(rows)} training samples, centers change by at most {distance:.1e} standard deviations "
        f"and scales by at most a factor of 1 + {stretch:.1e}"
    )
    return "scaler fitted on training samples only", max(distance, stretch) < ROUNDING, finding


def _pairs_across(x_ng: NDArray[np.float32], obs: pd.DataFrame) -> pd.DataFrame:
    """Find nearly identical samples in different splits."""
    pairs = near_duplicates(x_ng, obs.index, threshold=CORRELATION)
    for column, end in (("split", "sample"), ("other_split", "other")):
        pairs[column] = obs["split"].astype(str).reindex(pairs[end]).to_numpy()
    donor = obs["donor"].astype(str)
    pairs["same_donor"] = (
        donor.reindex(pairs["sample"]).to_numpy() == donor.reindex(pairs["other"]).to_numpy()
    )
    return pairs[pairs["split"] != pairs["other_split"]].reset_index(drop=True)
