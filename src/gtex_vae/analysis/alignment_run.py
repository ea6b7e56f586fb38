"""An alignment run read back: its data, its models, and the retrieval that they give.

Shapes: ``n`` donors, ``a`` donor samples, ``p`` dimensions of a projection.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gtex_vae import runs
from gtex_vae.analysis.alignment import Compared, Views, baseline_views, compare
from gtex_vae.data.donor_cells import DonorCells, donor_cells, holds_pseudobulk, read_pseudobulk
from gtex_vae.errors import RunError
from gtex_vae.models.aligner import Aligner
from gtex_vae.models.trained import TrainedModel
from gtex_vae.paths import write_beside, write_json

log = logging.getLogger(__name__)

ALIGNMENT = "alignment"
ROWS_AT_A_TIME = 2048


def is_alignment(run: Path) -> bool:
    """Whether a run aligned donors with their cell types."""
    return (run / ALIGNMENT / "alignment.json").is_file()


def read_alignment_data(run: Path, trained: TrainedModel) -> DonorCells:
    """The donors and cell types of an alignment run, split as it had them.

    Raises
    ------
    RunError
        They are gone.
    """
    settings = runs.read_config(run)[ALIGNMENT]
    given = Path(settings["input"]) if settings["input"] is not None else None
    folder = given if given is not None and holds_pseudobulk(given) else run / "pseudobulk"
    if not holds_pseudobulk(folder):
        raise RunError(f"{folder}, the donors that {run} was trained on, is gone")
    split = pd.read_csv(run / "splits.csv", dtype=str)
    return donor_cells(
        read_pseudobulk(folder), trained.scaler, gene_ids=trained.gene_ids, gene_names=trained.gene_names,
        unit=trained.unit, min_overlap=settings["min_overlap"],
        known=dict(zip(split["donor"], split["split"], strict=True)),
    )  # fmt: skip


@torch.inference_mode()
def project(aligner: Aligner, cells: DonorCells) -> Views:
    """Projections of all donor samples (a, p), and of all donors by their cell types (n, p)."""
    aligner.eval()

    def embed(x_ng: np.ndarray) -> Tensor:
        parts = torch.from_numpy(x_ng).split(ROWS_AT_A_TIME)
        return torch.cat([aligner.encoder(aligner.encoder.features(part)) for part in parts])

    owner_s, type_s = torch.from_numpy(cells.owner_s), torch.from_numpy(cells.type_s)
    u_ap = aligner.project_donors(embed(cells.x_ag))
    v_np = aligner.project_cells(embed(cells.x_sg), owner_s, type_s, len(cells.donors))
    return u_ap.float().numpy(), v_np.float().numpy()


def measure(aligner: Aligner, trained: TrainedModel, cells: DonorCells, *, seed: int = 0) -> Compared:
    """Retrieval of held-out donors by an alignment, beside the baselines."""
    views = {"": project(aligner, cells)}
    views |= baseline_views(cells, trained.embed, trained.vae.latent_dim)
    return compare(views, cells, seed=seed)


def evaluate_alignment(run: Path, *, seed: int = 0) -> Compared:
    """Measure an alignment run on its held-out donors and write ``evaluation/`` into it.

    Parameters
    ----------
    run
        A finished alignment run.
    seed
        Of the resamples of donors.
    """
    trained = TrainedModel.load(run / "model")
    aligner = Aligner.load(run / ALIGNMENT, trained.vae)
    found = measure(aligner, trained, read_alignment_data(run, trained), seed=seed)
    for name, table in {"intervals": found.intervals, "retrieval": found.ranks}.items():
        with write_beside(run / "evaluation" / f"{name}.csv") as temporary:
            table.to_csv(temporary, float_format="%.6g")
    write_json(run / "evaluation" / "metrics.json", found.metrics)
    return found
