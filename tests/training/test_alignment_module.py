"""Training steps of the alignment: a few donors at a time give the same gradients as all at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gtex_vae.data.single_cell.donors import DonorCells
from gtex_vae.errors import ConfigError
from gtex_vae.models.aligner import Aligner
from gtex_vae.models.vae import VAE
from gtex_vae.training.alignment_module import AlignmentModule

N, G = 14, 20


def cells() -> DonorCells:
    rng = np.random.default_rng(0)
    owner_s, type_s = np.repeat(np.arange(N), 3), np.tile(np.arange(3), N)
    return DonorCells(
        donors=[f"d{i}" for i in range(N)], cell_types=["a", "b", "c"],
        x_ag=rng.standard_normal((3 * N, G), np.float32), owner_a=np.tile(np.arange(N), 3),
        mixture_a=np.repeat([0, 1, 2], N), x_sg=rng.standard_normal((3 * N, G), np.float32), owner_s=owner_s,
        type_s=type_s, proportion_nc=np.full((N, 3), 1 / 3), split_n=np.array(["train"] * 10 + ["val"] * 2 + ["test"] * 2),
        report={},
    )  # fmt: skip


def module(donors_at_a_time: int | None, **aligner) -> AlignmentModule:
    torch.manual_seed(0)
    vae = VAE(G, 4, [6], n_members=2).eval()
    built = Aligner(vae, ["a", "b", "c"], path=5, head=[8, 4], pooling="attention", **aligner)
    optimizer = {"_target_": "torch.optim.SGD", "lr": 0.1}
    part = AlignmentModule(built, optimizer, cells(), donors_at_a_time=donors_at_a_time).double().train()
    # Double precision, because rounding in single precision can exceed the compared differences.
    part.of_samples_af, part.of_profiles_sf = part.of_samples_af.double(), part.of_profiles_sf.double()
    return part


def gradients(part: AlignmentModule) -> tuple[dict[str, torch.Tensor], int]:
    """Return the gradients of one step, and the number of values saved for them."""
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    torch.manual_seed(1)
    donors = torch.tensor([3, 1, 8, 0, 2, 9, 7, 4, 6, 5])
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = part.aligner.loss(*part.project(donors))
        loss.backward()
    trained = {name: p.grad for name, p in part.named_parameters() if p.requires_grad}
    without = {name for name, gradient in trained.items() if gradient is None}
    assert without <= {"aligner.log_scale"}  # vicreg has no temperature
    return {name: gradient for name, gradient in trained.items() if gradient is not None}, kept


@pytest.mark.parametrize("loss", ["info_nce", "siglip", "sup_con", "vicreg"])
@pytest.mark.parametrize("tune", ["last", "all"])
def test_gradients_are_those_of_the_whole_step(loss: str, tune: str) -> None:
    settings = {"loss": loss, "tune": tune, "dropout": 0.0, "drop_types": 0.0}
    whole, _ = gradients(module(None, **settings))
    parts, _ = gradients(module(3, **settings))
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        assert (gradient - parts[name]).abs().max() <= 1e-4 * gradient.abs().max() + 1e-7, name


def test_what_is_computed_again_drops_the_same() -> None:
    part = module(4, dropout=0.5, drop_types=0.5)
    cached, kept_cached = gradients(part)
    plain = module(4, dropout=0.5, drop_types=0.5)
    plain.project = lambda donor_n: _uncached(plain, donor_n, 4)  # type: ignore[method-assign]
    expected, kept = gradients(plain)
    for name, gradient in expected.items():
        assert torch.allclose(gradient, cached[name], rtol=1e-4, atol=1e-6), name
    assert kept_cached < kept


def _uncached(part: AlignmentModule, donor_n: torch.Tensor, step: int):
    """The same chunks without recomputation."""
    found = [part._project(chunk) for chunk in donor_n.split(step)]
    owner = torch.cat([step * i + chunk[2] for i, chunk in enumerate(found)])
    return torch.cat([chunk[0] for chunk in found]), torch.cat([chunk[1] for chunk in found]), owner


def test_no_donor_at_a_time_is_refused() -> None:
    with pytest.raises(ConfigError, match="donors_at_a_time=0"):
        module(0)
