"""Design matrix of sample covariates: standardized numbers, one-hot classes, and a flag for unknown values.

Shapes: ``n`` samples, ``k`` columns of the design, ``v`` covariates.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gtex_vae.config import nearest
from gtex_vae.data.annotation_columns import SEX
from gtex_vae.errors import ConfigError

log = logging.getLogger(__name__)

FEW_VALUES = 10
BRACKET = r"^\s*(\d+)\s*-\s*(\d+)\s*$"


class Covariates:
    """Design matrix of annotation columns, fitted on training samples.

    A numeric covariate has one standardized column and one column that is 1 where the value is unknown. A categorical
    covariate has one column per class, the indicator minus the class's share of the training samples, and one column for
    unknown. Samples with missing values have a row too, and the average training sample is 0.

    Parameters
    ----------
    columns
        Name to ``{"mean": ..., "sd": ...}`` or ``{"classes": [...], "shares": [...]}``, as in ``model.json``.

    Examples
    --------
    >>> obs = pd.DataFrame({"sex": ["M", "F", None]})
    >>> covariates = Covariates.fit(obs, ["sex"])
    >>> covariates.columns["sex"]
    {'classes': ['female', 'male'], 'shares': [0.5, 0.5]}
    >>> covariates.design(obs).tolist()
    [[-0.5, 0.5, 0.0], [0.5, -0.5, 0.0], [0.0, 0.0, 1.0]]
    """

    def __init__(self, columns: Mapping[str, dict[str, Any]]) -> None:
        self.columns = dict(columns)

    @classmethod
    def fit(cls, obs: pd.DataFrame, columns: Sequence[str]) -> Covariates | None:
        """Fit classes, means and standard deviations to training samples; return None if no column is named.

        Raises
        ------
        ConfigError
            A column does not exist or has nearly as many classes as samples, or no column has more than one value.
        """
        fitted: dict[str, dict[str, Any]] = {}
        for name in columns:
            if name not in obs:
                raise ConfigError(
                    f"data.covariates: the annotations have no column {name!r}{nearest(name, map(str, obs.columns))}"
                )
            values = as_number(obs[name])
            different = values.nunique()
            if different < 2:
                log.warning(
                    "data.covariates: %s has fewer than two values in the training samples and is left out",
                    name,
                )
            elif pd.api.types.is_float_dtype(values):
                fitted[name] = {"mean": float(values.mean()), "sd": float(values.std(ddof=0))}
            elif different > values.notna().sum() // 2 + 1:
                raise ConfigError(
                    f"data.covariates={name} has {different} classes for {values.notna().sum()} samples"
                )
            else:
                share = _classes(name, obs[name]).value_counts(normalize=True).sort_index()
                fitted[name] = {"classes": [str(label) for label in share.index], "shares": share.tolist()}
        if columns and not fitted:
            raise ConfigError(
                f"data.covariates={list(columns)}: none of these columns varies in the training samples"
            )
        return cls(fitted) if fitted else None

    @property
    def widths(self) -> list[int]:
        """Number of design columns of each covariate; the last of them flags unknown values."""
        return [len(how.get("classes", "1")) + 1 for how in self.columns.values()]

    @property
    def unknown_k(self) -> np.ndarray:
        """Design row of a sample without known covariates, float32."""
        return np.concatenate([np.eye(width, dtype=np.float32)[-1] for width in self.widths])

    @property
    def flag_k(self) -> np.ndarray:
        """For each design column, the column that flags its unknown values."""
        return np.repeat(np.cumsum(self.widths) - 1, self.widths)

    def design(self, obs: pd.DataFrame) -> np.ndarray:
        """Return the design of samples, float32 (n, k). Absent columns, missing values and new classes count as unknown."""
        parts = [self._of(name, obs.get(name), len(obs)) for name in self.columns]
        return np.concatenate(parts, axis=1)

    def _of(self, name: str, values: pd.Series | None, n: int) -> np.ndarray:
        """Return the design columns of one covariate."""
        how = self.columns[name]
        classes = how.get("classes")
        part = np.zeros((n, 2 if classes is None else len(classes) + 1), dtype=np.float32)
        if values is None:
            part[:, -1] = 1.0
            return part
        if classes is None:
            number_n = quantities(values).to_numpy(dtype=float)
            known_n = np.isfinite(number_n)
            part[known_n, 0] = (number_n[known_n] - how["mean"]) / how["sd"]
        else:
            code_n = pd.Index(classes).get_indexer(pd.Index(_classes(name, values)))
            known_n = code_n >= 0
            part[known_n, :-1] = np.eye(len(classes))[code_n[known_n]] - np.array(how["shares"])
        part[~known_n, -1] = 1.0
        return part

    def supposing(self, obs: pd.DataFrame, values: Mapping[str, Any]) -> np.ndarray:
        """Return the design with some covariates set to given values for all samples.

        Raises
        ------
        ConfigError
            A name is not a covariate of the model, or a value is not one of its classes.
        """
        for name, value in values.items():
            if name not in self.columns:
                raise ConfigError(
                    f"as_if.{name} is not a covariate of this model{nearest(str(name), self.columns)}"
                )
            how = self.columns[name]
            if self._of(name, pd.Series([value]), 1)[0, -1]:
                known = f": {', '.join(how['classes'][:10])}" if "classes" in how else ": give a number"
                raise ConfigError(
                    f"as_if.{name}={value} is not a value of this covariate in the model{known}"
                )
        return self.design(obs.assign(**{str(name): value for name, value in values.items()}))


def _classes(name: str, values: pd.Series) -> pd.Series:
    """Convert classes to text: whole numbers without decimals, and sex as male or female."""
    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    text = _text(values)
    return text.str.lower().map(SEX) if name == "sex" else text


def as_number(values: pd.Series) -> pd.Series:
    """Convert a covariate to floats if it is numeric, else to text classes; missing values stay missing.

    >>> as_number(pd.Series(["60-69", None, "20-29"])).tolist()
    [64.5, nan, 24.5]
    >>> as_number(pd.Series([1, 2, 2])).tolist()
    ['1', '2', '2']
    """
    present = values.dropna()
    if not pd.api.types.is_bool_dtype(present) and pd.api.types.is_numeric_dtype(present):
        if present.nunique() > FEW_VALUES:
            return values.astype(float)
    elif len(present) and (middles := _middles(values)).notna().sum() == len(present):
        return middles
    return _text(values)


def quantities(values: pd.Series) -> pd.Series:
    """Convert numbers to floats and ranges such as "60-69" to their middle; other values become missing."""
    if pd.api.types.is_numeric_dtype(values):
        return values.astype(float)
    return _middles(values).fillna(pd.to_numeric(values.astype("string"), errors="coerce").astype(float))


def _middles(values: pd.Series) -> pd.Series:
    """Return the middle of each range; other values become missing."""
    return values.astype("string").str.extract(BRACKET).astype(float).mean(axis=1, skipna=False)


def _text(values: pd.Series) -> pd.Series:
    """Convert classes to text; missing values stay missing."""
    return values.astype("string").astype(object).where(values.notna(), None)
