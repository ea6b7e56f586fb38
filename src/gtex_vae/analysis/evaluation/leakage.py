"""Whether held-out figures can be trusted: nothing of the held-out samples may have been seen in training.

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
    """Look for what could have leaked from held-out samples into the model.

    Parameters
    ----------
    x_ng
        Expression before standardizing, all samples, shape (n, g).
    obs
        Their annotations, with ``donor`` and ``split``.
    scaler
        The model's.

    Returns
    -------
    checks : DataFrame
        ``check``, ``passed`` and ``finding`` in words.
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
    """Donors in two splits."""
    donors = {split: set(obs.loc[obs["split"] == split, "donor"].dropna().astype(str)) for split in SPLITS}
    shared = {f"{a} and {b}": len(donors[a] & donors[b]) for a, b in combinations(SPLITS, 2)}
    finding = "; ".join(f"{count} donors in both {names}" for names, count in shared.items())
    return "donors in more than one split", not any(shared.values()), finding


def _scaler_of_train(
    x_ng: NDArray[np.float32], obs: pd.DataFrame, scaler: Standardizer
) -> tuple[str, bool, str]:
    """Whether the scaler is that of the training samples, and not of all."""
    rows = np.flatnonzero(obs["split"] == "train")
    refitted = Standardizer(x_ng.shape[1], **scaler.settings).fit(x_ng, rows)
    distance = float(((refitted.center_g - scaler.center_g.cpu()).abs() / refitted.scale_g).max())
    stretch = float((scaler.scale_g.cpu() / refitted.scale_g - 1).abs().max())
    finding = (
        f"fitted again on the {len(rows)} training samples, centers move by at most {distance:.1e} standard "
        f"deviations and scales by at most {stretch:.1e} of themselves"
    )
    return "scaler fitted on training samples only", max(distance, stretch) < ROUNDING, finding


def _pairs_across(x_ng: NDArray[np.float32], obs: pd.DataFrame) -> pd.DataFrame:
    """Nearly identical samples in different splits."""
    pairs = near_duplicates(x_ng, obs.index, threshold=CORRELATION)
    for column, end in (("split", "sample"), ("other_split", "other")):
        pairs[column] = obs["split"].astype(str).reindex(pairs[end]).to_numpy()
    donor = obs["donor"].astype(str)
    pairs["same_donor"] = (
        donor.reindex(pairs["sample"]).to_numpy() == donor.reindex(pairs["other"]).to_numpy()
    )
    return pairs[pairs["split"] != pairs["other_split"]].reset_index(drop=True)
