"""What a conditional model is told of the samples of a matrix.

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
    """What a conditional model is told of samples.

    Attributes
    ----------
    c_nk
        Design of their covariates.
    supposed_nk
        The same as if some were other than they are.
    """

    c_nk: np.ndarray
    supposed_nk: np.ndarray | None = None

    def for_rows(self, rows: slice) -> CovariateInput:
        """What is told of a part of the samples."""
        return CovariateInput(self.c_nk[rows], None if self.supposed_nk is None else self.supposed_nk[rows])


def covariates_of(
    model: TrainedModel,
    matrix: RawMatrix,
    *,
    annotations: Sequence[str] = (),
    as_if: Mapping[str, Any] | None = None,
) -> CovariateInput | None:
    """What a conditional model is told of a matrix's samples; None for a model that takes no covariates.

    Parameters
    ----------
    model, matrix
        The model and what was read.
    annotations
        Tables with a column of sample or donor ids; what the matrix holds itself comes first.
    as_if
        Covariates that samples are to be given, by name.

    Raises
    ------
    ConfigError
        The model takes no covariates, and tables or values are given; or it does not know the names or values.
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
