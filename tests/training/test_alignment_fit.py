"""Start of an alignment, and the weights that it keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gtex_vae.data.single_cell.donors import DonorCells
from gtex_vae.errors import RunError
from gtex_vae.models.aligner import Aligner
from gtex_vae.models.vae import VAE
from gtex_vae.training.alignment_fit import _keep_best, _seen
from gtex_vae.training.alignment_module import AlignmentModule

G = 20


def paired_cells(n_valid: int) -> DonorCells:
    """Donors whose samples are their profiles and some noise."""
    n = 12 + n_valid
    rng = np.random.default_rng(0)
    donor_ng = rng.standard_normal((n, G), np.float32)
    x_ng = donor_ng + 0.5 * rng.standard_normal((n, G), np.float32)
    split_n = np.array(["train"] * 12 + ["val"] * n_valid)
    number = np.arange(n)
    return DonorCells(
        donors=[f"d{i}" for i in range(n)], cell_types=["a"], x_ag=x_ng, owner_a=number, mixture_a=0 * number,
        x_sg=donor_ng, owner_s=number, type_s=0 * number, proportion_nc=np.ones((n, 1)), split_n=split_n, report={},
    )  # fmt: skip


def module(data: DonorCells, **model) -> AlignmentModule:
    torch.manual_seed(0)
    aligner = Aligner(VAE(G, 1, [6]).eval(), ["a"], path=G, **model)
    return AlignmentModule(aligner, {"_target_": "torch.optim.SGD", "lr": 0.1}, data)


@pytest.mark.parametrize(
    ("n_valid", "good", "kept"), [(3, True, "start"), (30, True, "best"), (30, False, "start")]
)
def test_training_has_to_show_its_gain_on_validation_donors(n_valid, good, kept, tmp_path: Path) -> None:
    """Start with weights that confuse some donors."""
    data = paired_cells(n_valid)
    part = module(data)
    best = {key: value.clone() for key, value in part.state_dict().items()}
    path = "aligner.encoder.path.weight"
    poor = {**best, path: best[path] * (torch.arange(G) < 2)[:, None]}  # two directions of twenty
    start, best = (poor, best) if good else (best, poor)
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": best}, tmp_path / "checkpoints" / "best.ckpt")
    _keep_best(part, start, data, tmp_path)
    assert torch.equal(part.state_dict()[path], {"start": start, "best": best}[kept][path])


def test_a_random_head_is_no_start_to_keep(tmp_path: Path) -> None:
    data = paired_cells(3)
    part = module(data, head=[3])
    start = part.state_dict()
    best = {key: value + 1 if key.endswith("head.mlp.1.weight") else value for key, value in start.items()}
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": best}, tmp_path / "checkpoints" / "best.ckpt")
    _keep_best(part, start, data, tmp_path)
    assert not part.aligner.compares_at_once
    assert torch.equal(part.aligner.donor_head.mlp[1].weight, best["aligner.donor_head.mlp.1.weight"])


def test_the_vae_of_an_alignment_keeps_its_donors_or_is_refused(tmp_path: Path) -> None:
    assert _seen(tmp_path) == tmp_path / "splits.csv"
    (tmp_path / "alignment").mkdir()
    (tmp_path / "alignment" / "alignment.json").write_text("{}")
    with pytest.raises(RunError, match="set run= to the run of that VAE"):
        _seen(tmp_path)
    (tmp_path / "vae_splits.csv").touch()
    assert _seen(tmp_path) == tmp_path / "vae_splits.csv"
