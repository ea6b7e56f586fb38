"""Projections by the contrastive part of a run, as its loss compared them.

Shapes: ``n`` samples or profiles, ``k`` donors, ``g`` genes, ``d`` latent dimensions, ``f`` features, ``p`` dimensions of
a projection.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gtex_vae.data.annotation_columns import CELL_TYPE_NAMES, COLUMN_NAMES, column_named
from gtex_vae.models.aligner import Aligner
from gtex_vae.models.contrastive import load_head

if TYPE_CHECKING:
    from gtex_vae.inference.trained_model import TrainedModel

log = logging.getLogger(__name__)

ALIGNMENT, PROJECTION = "alignment", "projection"


class Projector:
    """Projection of samples, block by block.

    Attributes
    ----------
    side
        Description of the projected samples.
    """

    side = "samples"

    def __init__(self, head: nn.Module) -> None:
        self._head = head

    def features(self, x_ng: Tensor, mu_nd: Tensor) -> Tensor:
        """Compute features (n, f) of a block from standardized expression and its embedding."""
        features_nf: Tensor = self._head(mu_nd)
        return features_nf

    def finish(self, features_nf: Tensor) -> Tensor:
        """Compute projections (n, p) from the features of all blocks."""
        return features_nf


class DonorProjector(Projector):
    """Projection of samples of donors, such as pseudobulk or bulk, by the donor side of an alignment."""

    side = "donors"

    def __init__(self, aligner: Aligner) -> None:
        self._aligner = aligner

    def features(self, x_ng: Tensor, mu_nd: Tensor) -> Tensor:
        """See `Projector.features`."""
        encoder = self._aligner.encoder
        return self._aligner.project_donors(encoder(encoder.features(x_ng)))


class CellProjector(Projector):
    """Projection of cell-type profiles, pooled by donor: all profiles of a donor share one projection.

    Parameters
    ----------
    aligner
        Trained.
    donor_n, type_n
        Codes of donor and cell type of each profile; rows with a negative (unknown) code are NaN.
    """

    side = "cell types, pooled by donor"

    def __init__(self, aligner: Aligner, donor_n: np.ndarray, type_n: np.ndarray) -> None:
        self._aligner = aligner
        self._known = (donor_n >= 0) & (type_n >= 0)
        names, owner = np.unique(donor_n[self._known], return_inverse=True)
        self._owner, self._type = torch.from_numpy(owner), torch.from_numpy(type_n[self._known])
        self._donors = len(names)

    def features(self, x_ng: Tensor, mu_nd: Tensor) -> Tensor:
        """See `Projector.features`."""
        encoder = self._aligner.encoder
        features_nf: Tensor = encoder(encoder.features(x_ng), cells=True)
        return features_nf

    def finish(self, features_nf: Tensor) -> Tensor:
        """See `Projector.finish`."""
        device = self._aligner.log_scale.device
        known_nf = features_nf[torch.from_numpy(self._known)].to(device)
        owner, kind = self._owner.to(device), self._type.to(device)
        projected_kp = self._aligner.project_cells(known_nf, owner, kind, self._donors)
        projected_np = torch.full((len(features_nf), projected_kp.shape[1]), torch.nan)
        projected_np[torch.from_numpy(self._known)] = projected_kp[owner].cpu()
        return projected_np


def find_projector(model: TrainedModel, obs: pd.DataFrame) -> Projector | None:
    """Return the projector of the run that a model was loaded from, for samples with annotations ``obs``.

    With an alignment, samples with donor and cell type are projected as cell-type profiles, others as samples of
    donors. None for a run without a contrastive part or without a projection head.

    Raises
    ------
    RunError
        The run's contrastive part is damaged.
    """
    run, device = Path(model.origin).parent, model.scaler.center_g.device
    if not model.origin:
        return None
    if (run / PROJECTION).is_dir():
        return Projector(load_head(run / PROJECTION).to(device))
    if not (run / ALIGNMENT).is_dir():
        return None
    aligner = Aligner.load(run / ALIGNMENT, model.vae).to(device)
    donor, cell_type = (
        column_named(obs.columns, names) for names in (COLUMN_NAMES["donor"], CELL_TYPE_NAMES)
    )
    if donor is None or cell_type is None:
        return DonorProjector(aligner)
    types = obs[cell_type].astype("string")
    type_n = pd.Index(aligner.cell_types).get_indexer(pd.Index(types))
    unknown = sorted(types[type_n < 0].dropna().unique())
    if unknown:
        log.warning(
            "%d cell types that the alignment does not know have no projection: %s",
            len(unknown),
            ", ".join(unknown[:5]),
        )
    return CellProjector(aligner, pd.factorize(obs[donor])[0], type_n)
