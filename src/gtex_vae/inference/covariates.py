"""Covariates of the samples of a matrix, for a conditional model.

Shapes: ``n`` samples, ``k`` columns of the covariates' design.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gtex_vae.data.annotations import annotate
from gtex_vae.data.readers.matrix import RawMatrix
from gtex_vae.errors import ConfigError

if TYPE_CHECKING:
    from gtex_vae.inference.trained_model import TrainedModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CovariateInput:
    """Covariates given to a conditional model.

    Attributes
    ----------
    c_nk
        Design of the covariates.
    supposed_nk
        Design with the values of ``as_if``; None without it.
    """

    c_nk: np.ndarray
    supposed_nk: np.ndarray | None = None

    def for_rows(self, rows: slice) -> CovariateInput:
        """Return the covariates of some of the samples."""
        return CovariateInput(self.c_nk[rows], None if self.supposed_nk is None else self.supposed_nk[rows])


def covariates_of(
    model: TrainedModel,
    matrix: RawMatrix,
    *,
    annotations: Sequence[str] = (),
    as_if: Mapping[str, Any] | None = None,
) -> CovariateInput | None:
    """Read the covariates of the samples of a matrix; None for a model without covariates.

    Parameters
    ----------
    model, matrix
        Trained model and the matrix that was read.
    annotations
        Tables with a column of sample or donor ids; annotations in the matrix take precedence.
    as_if
        Values of covariates to predict expression for, by name.

    Raises
    ------
    ConfigError
        The model takes no covariates but tables or values are given, or a name or value is unknown.
    """
    if model.covariates is None:
        for key, value in (("annotations", list(annotations)), ("as_if", as_if)):
            if value:
                raise ConfigError(
                    f"{key}={value}: this model takes no covariates; train one with +experiment=conditional"
                )
        return None
    obs, _ = annotate(matrix.sample_ids, annotations, own=matrix.obs)
    for name in model.covariates.columns:
        unknown = obs[name].isna().sum() if name in obs else len(obs)
        if unknown:
            log.warning("%s is unknown for %d of %d samples", name, unknown, len(obs))
    supposed_nk = model.covariates.supposing(obs, as_if) if as_if else None
    return CovariateInput(model.covariates.design(obs), supposed_nk)
