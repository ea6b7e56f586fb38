"""Data, models and retrieval of an alignment run.

Shapes: ``n`` donors, ``a`` donor samples, ``p`` dimensions of a projection.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gtex_vae.analysis.alignment.compare import Compared, Views, baseline_views, compare
from gtex_vae.data.single_cell.donors import (
    DonorCells,
    combine_with_training_donors,
    donor_cells,
)
from gtex_vae.data.single_cell.files import holds_pseudobulk, read_pseudobulk
from gtex_vae.data.single_cell.pseudobulk import Pseudobulk, make_pseudobulk
from gtex_vae.errors import RunError
from gtex_vae.files import write_beside, write_json
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.aligner import Aligner
from gtex_vae.paths import matrix_name
from gtex_vae.runs import directory

log = logging.getLogger(__name__)

ALIGNMENT = "alignment"
ROWS_AT_A_TIME = 2048


def is_alignment(run: Path) -> bool:
    """Return True if a run aligned donors with their cell types."""
    return (run / ALIGNMENT / "alignment.json").is_file()


def read_alignment_data(run: Path, trained: TrainedModel) -> DonorCells:
    """Read the donors and cell types of an alignment run, with its split.

    Raises
    ------
    RunError
        The pseudobulk files do not exist any more.
    """
    settings = directory.read_config(run)[ALIGNMENT]
    given = Path(settings["input"]) if settings["input"] is not None else None
    folder = given if given is not None and holds_pseudobulk(given) else run / "pseudobulk"
    if not holds_pseudobulk(folder):
        raise RunError(f"{folder} with the donors that {run} was trained on does not exist any more")
    split = pd.read_csv(run / "splits.csv", dtype=str)
    known = dict(zip(split["donor"], split["split"], strict=True))
    return _in_genes(read_pseudobulk(folder), trained, settings["min_overlap"], known=known)


def read_new_donors(run: Path, trained: TrainedModel, input: Path, own: DonorCells) -> DonorCells:
    """Read other donors as held-out ones, with the run's pseudobulk settings, and add the run's training donors.

    Parameters
    ----------
    run, trained
        The alignment run and its model.
    input
        Single cells, or a folder written by ``gtex_vae.pseudobulk``.
    own
        The run's donors.
    """
    settings = directory.read_config(run)[ALIGNMENT]
    how = {key: value for key, value in settings["pseudobulk"].items() if key != "_target_"}
    made = read_pseudobulk(input) if holds_pseudobulk(input) else make_pseudobulk(input, **how)
    return combine_with_training_donors(own, _in_genes(made, trained, settings["min_overlap"], held_out=True))


def _in_genes(made: Pseudobulk, trained: TrainedModel, min_overlap: float, **split: Any) -> DonorCells:
    """Map pseudobulk to a model's genes."""
    return donor_cells(
        made, trained.scaler, gene_ids=trained.gene_ids, gene_names=trained.gene_names, unit=trained.unit,
        min_overlap=min_overlap, **split,
    )  # fmt: skip


@torch.inference_mode()
def project(aligner: Aligner, cells: DonorCells) -> Views:
    """Project all donor samples, shape (a, p), and all donors from their cell types, shape (n, p)."""
    aligner.eval()

    def embed(x_ng: np.ndarray, of_cells: bool) -> Tensor:
        blocks = torch.from_numpy(x_ng).split(ROWS_AT_A_TIME)
        return torch.cat([aligner.encoder(aligner.encoder.features(x), cells=of_cells) for x in blocks])

    owner_s, type_s = torch.from_numpy(cells.owner_s), torch.from_numpy(cells.type_s)
    u_ap = aligner.project_donors(embed(cells.x_ag, False))
    v_np = aligner.project_cells(embed(cells.x_sg, True), owner_s, type_s, len(cells.donors))
    return u_ap.float().numpy(), v_np.float().numpy()


def measure(aligner: Aligner, trained: TrainedModel, cells: DonorCells, *, seed: int = 0) -> Compared:
    """Measure retrieval of held-out donors by an alignment and by the baselines."""
    views = {"": project(aligner, cells)}
    views |= baseline_views(cells, trained.embed, trained.vae.latent_dim)
    return compare(views, cells, seed=seed)


def evaluate_alignment(run: Path, input: Path | None = None, *, seed: int = 0) -> tuple[Compared, Path]:
    """Measure an alignment run by retrieval among its held-out donors, or among other donors.

    Parameters
    ----------
    run
        A finished alignment run.
    input
        Other donors, see `read_new_donors`.
    seed
        Seed of the bootstrap over donors.

    Returns
    -------
    Compared, Path
        The result and its folder: ``evaluation/`` of the run; with ``input``, a subfolder named after the file.
    """
    trained = TrainedModel.load(run / "model")
    aligner = Aligner.load(run / ALIGNMENT, trained.vae)
    cells, folder = read_alignment_data(run, trained), run / "evaluation"
    if input is not None:
        cells, folder = read_new_donors(run, trained, input, cells), folder / matrix_name(str(input))
        write_json(folder / "alignment.json", cells.report)
    held_out = int((cells.split_n == "test").sum())
    log.info("measuring retrieval by %s among %d held-out donors", run, held_out)
    found = measure(aligner, trained, cells, seed=seed)
    for name, table in {"intervals": found.intervals, "retrieval": found.ranks}.items():
        with write_beside(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, float_format="%.6g")
    write_json(folder / "metrics.json", found.metrics)
    return found, folder
