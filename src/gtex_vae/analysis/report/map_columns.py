"""Annotations as colors and markers of the interactive map."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, DTypeLike

from gtex_vae.analysis.report.plots import tissue_colors, tissue_markers
from gtex_vae.data.covariates import as_number

# Okabe and Ito's palette without yellow, which is pale on white
FEW = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MISSING = "#b5b5b5"
FIRST = (
    "tissue", "donor", "sex", "age", "split", "tissue_group", "ischemic_time", "rin", "hardy", "batch",
)  # fmt: skip
MOST_LEVELS, MOST_COLUMNS = 100, 30
MANY_LEVELS_TOO = ("donor", "tissue", "batch")


def encode(values: ArrayLike, dtype: DTypeLike) -> str:
    """Encode numbers as little-endian bytes in base64, a third of the size of text."""
    array = np.asarray(values)
    return base64.b64encode(array.astype(np.dtype(dtype).newbyteorder("<")).tobytes()).decode()


def map_columns(obs: pd.DataFrame) -> list[dict[str, Any]]:
    """Describe the annotation columns that color the map.

    Numbers get a continuous scale, classes a color and a marker each. Columns with a single value are skipped, and text
    columns with more than 100 values except donors, tissues and batches.

    Parameters
    ----------
    obs
        Annotations, a row per sample.

    Returns
    -------
    list of dict
        For numbers ``name``, ``kind="number"`` and encoded float32 ``values`` (NaN where missing); for classes
        ``name``, ``kind="class"``, ``levels``, ``colors``, ``markers`` and encoded uint16 ``codes``.
    """
    ordered = [c for c in FIRST if c in obs] + [c for c in obs if c not in FIRST]
    columns: list[dict[str, Any]] = []
    for name in ordered:
        values = as_number(obs[name])
        levels = int(values.nunique())
        if levels < 2 or len(columns) == MOST_COLUMNS:
            continue
        if pd.api.types.is_float_dtype(values) and pd.api.types.is_numeric_dtype(obs[name]):
            columns.append({"name": str(name), "kind": "number", "values": encode(values, np.float32)})
        elif levels <= MOST_LEVELS or name in MANY_LEVELS_TOO:
            columns.append({"name": str(name), "kind": "class", **_classes(obs[name])})
    return columns


def _classes(values: pd.Series) -> dict[str, Any]:
    """Sort levels and give them colors and markers; missing values come last, in grey."""
    codes, found = pd.factorize(values.astype(object), sort=True)
    # integer codes are read as floats if some are missing
    levels = [f"{level:g}" if isinstance(level, float) else str(level) for level in found]
    if len(levels) <= len(FEW):
        colors = list(FEW[: len(levels)])
    else:
        colors = [
            "#" + "".join(f"{round(255 * c):02x}" for c in rgb) for rgb in tissue_colors(levels).values()
        ]
    markers = list(tissue_markers(levels).values())
    if (codes < 0).any():
        codes = np.where(codes < 0, len(levels), codes)
        levels, colors, markers = [*levels, "missing"], [*colors, MISSING], [*markers, "."]
    return {
        "levels": levels,
        "colors": colors,
        "markers": "".join(markers),
        "codes": encode(codes, np.uint16),
    }
