"""Directions in which two measurements agree."""

from __future__ import annotations

import pytest
import torch

from gtex_vae.functional.paired_directions import SHRINKAGE, paired_directions


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n", [6, 50])
def test_the_map_is_the_whitening_of_differences(n: int) -> None:
    x, g = random(n, 12), 12
    y, owner, kind = x + 0.5 * random(n, 12, seed=1), torch.arange(n), torch.zeros(n, dtype=torch.long)
    x, y = ((side - side.mean(0)) / side.std(0, correction=0) for side in (x, y))
    weight = (x * y).mean(0).clamp_min(0.02).sqrt()
    off = (x - y) * weight
    covariance = off.T @ off / n
    mean = covariance.trace() / g * torch.eye(g, dtype=torch.float64)
    expected = torch.linalg.inv((1 - SHRINKAGE) * covariance + SHRINKAGE * mean) * weight * weight[:, None]
    found = paired_directions(x, y, owner, kind, g).double()
    # with as many directions as genes all angles are kept
    product = found.T @ found
    assert torch.allclose(product / product.trace(), expected / expected.trace(), atol=1e-5)


def test_further_measurements_may_have_another_mean_and_more_directions_are_empty() -> None:
    y = random(20, 5)
    x = torch.cat([y + 0.3 * random(20, 5, seed=1), y + 0.3 * random(20, 5, seed=2)])
    owner, kind = torch.arange(20).repeat(2), torch.arange(2).repeat_interleave(20)
    found = paired_directions(x, y, owner, kind, 8)
    x[20:] += 7.0
    assert torch.allclose(paired_directions(x, y, owner, kind, 8), found, atol=1e-4)
    assert found.shape == (8, 5)
    assert found[5:].abs().max() == 0
