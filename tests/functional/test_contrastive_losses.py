"""Contrastive losses against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from gtex_vae.functional import contrastive_losses as c


def random_logits(n: int, m: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(n=st.integers(1, 8), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_info_nce_is_two_cross_entropies(n: int, seed: int) -> None:
    logits, target = random_logits(n, n, seed), torch.arange(n)
    expected = 0.5 * (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target))
    assert torch.isclose(c.info_nce(logits, torch.eye(n, dtype=torch.bool)), expected)


def test_chance_and_perfect() -> None:
    own = torch.eye(32, dtype=torch.bool)
    assert c.info_nce(torch.zeros(32, 32), own).item() == pytest.approx(math.log(32), abs=1e-6)
    assert c.info_nce(100.0 * own.float(), own).item() == pytest.approx(0.0, abs=1e-6)
    assert c.nt_xent(torch.zeros(8, 8)).item() == pytest.approx(math.log(7), abs=1e-6)


def test_a_left_out_pair_has_no_influence_and_no_gradient() -> None:
    logits = random_logits(3, 3).requires_grad_()
    candidate = torch.ones(3, 3, dtype=torch.bool)
    candidate[0, 2] = False
    own = torch.eye(3, dtype=torch.bool)
    loss = c.positive_nll(logits, own, candidate)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 2] == 0.0
    rows = [functional.cross_entropy(logits[:1, :2], torch.tensor([0]))]
    rows += [functional.cross_entropy(logits[i : i + 1], torch.tensor([i])) for i in (1, 2)]
    assert torch.isclose(loss, torch.stack(rows).mean())


def test_several_positives_are_averaged_outside_of_the_logarithm() -> None:
    logits = random_logits(2, 4)
    positive = torch.tensor([[True, True, False, False], [False, False, True, False]])
    log_share = logits.log_softmax(1)
    expected = -((log_share[0, 0] + log_share[0, 1]) / 2 + log_share[1, 2]) / 2
    assert torch.isclose(c.positive_nll(logits, positive), expected)


def test_nothing_to_learn_is_zero_not_nan() -> None:
    logits = random_logits(2, 2).requires_grad_()
    nothing = torch.zeros(2, 2, dtype=torch.bool)
    loss = c.positive_nll(logits, nothing, nothing)
    loss.backward()
    assert loss == 0.0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_nt_xent_is_cross_entropy_without_the_diagonal() -> None:
    logits = random_logits(6, 6)
    without = logits.masked_fill(torch.eye(6, dtype=torch.bool), -torch.inf)
    expected = functional.cross_entropy(without, torch.tensor([3, 4, 5, 0, 1, 2]))
    assert torch.isclose(c.nt_xent(logits), expected)


def test_sup_con_with_one_positive_each_is_nt_xent() -> None:
    logits, label = random_logits(6, 6), torch.tensor([0, 1, 2, 0, 1, 2])
    positive, candidate = c.label_pairs(label, torch.arange(6))
    candidate = candidate & ~torch.eye(6, dtype=torch.bool)
    assert torch.isclose(c.positive_nll(logits, positive, candidate), c.nt_xent(logits))


def test_label_pairs_never_attract_within_a_donor_nor_use_unknown_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(-1, 3, (40,), generator=generator)
    donor = torch.randint(0, 6, (40,), generator=generator)
    positive, candidate = c.label_pairs(label, donor)
    same_donor = donor[:, None] == donor
    assert not (positive & same_donor).any()
    assert not positive[label < 0].any()
    assert not candidate[label < 0].any()
    assert not candidate.diagonal().any()
    assert (candidate & same_donor).any()
    assert torch.equal(positive, positive.T)


def test_sigmoid_loss_is_binary_cross_entropy() -> None:
    logits, own = random_logits(5, 5), torch.eye(5, dtype=torch.bool)
    expected = functional.binary_cross_entropy_with_logits(logits - 2.0, own.double(), reduction="sum") / 5
    assert torch.isclose(c.sigmoid_loss(logits, -2.0, own), expected)


def test_vicreg_is_zero_for_equal_white_views_and_punishes_collapse() -> None:
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x - x.mean(0)
    white = (2.0 * x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / 63)).T).float()
    assert c.vicreg(white, white).item() == pytest.approx(0.0, abs=1e-5)
    collapsed = torch.zeros(64, 4)
    assert c.vicreg(collapsed, collapsed).item() == pytest.approx(2 * 25.0 * 0.99, abs=1e-3)
    doubled = white[:, [0, 0]]
    assert c.vicreg(doubled, doubled).item() == pytest.approx(2 * 2 * 16.0 / 2, rel=1e-3)


def test_scale_is_capped_and_learnable_below_the_cap() -> None:
    log_scale = torch.tensor([1.0, 50.0], requires_grad=True)
    scale = c.clamped_scale(log_scale)
    scale.sum().backward()
    assert scale.tolist() == pytest.approx([math.e, 100.0], rel=1e-5)
    assert log_scale.grad is not None
    assert log_scale.grad.tolist() == pytest.approx([math.e, 0.0])


def test_squared_distance_matches_cdist() -> None:
    u, v = random_logits(4, 3).float(), random_logits(5, 3, 1).float()
    assert torch.allclose(c.negative_squared_distance(u, v), -torch.cdist(u, v).square() / 3, atol=1e-5)


def test_autocast_does_not_round_similarities() -> None:
    u = random_logits(4, 64).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, distance = c.similarity(u, u), c.negative_squared_distance(u, u)
    assert torch.equal(rounded, c.similarity(u, u))
    assert torch.equal(distance, c.negative_squared_distance(u, u))


def test_other_positives_of_an_anchor_are_no_negatives() -> None:
    logits = random_logits(2, 4).requires_grad_()
    positive = torch.tensor([[True, True, False, False], [False, False, True, False]])
    parts = [functional.cross_entropy(logits[:1, [p, 2, 3]], torch.tensor([0])) for p in (0, 1)]
    expected = ((parts[0] + parts[1]) / 2 + functional.cross_entropy(logits[1:], torch.tensor([2]))) / 2
    loss = c.lone_positive_nll(logits, positive)
    assert torch.isclose(loss, expected)
    both_found = torch.tensor([[60.0, 40.0, 0.0]])
    assert c.lone_positive_nll(both_found, torch.tensor([[True, True, False]])).item() == pytest.approx(
        0.0, abs=1e-6
    )
    candidate = torch.tensor([[True, True, False, True], [True, True, True, True]])
    loss = c.lone_positive_nll(logits, positive, candidate)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[0, 2] == 0.0 and torch.isfinite(gradient).all()
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    assert c.lone_positive_nll(logits, nothing, nothing).item() == 0.0
