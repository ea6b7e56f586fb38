"""Agreement of embeddings: invariances, closed forms, and what chance gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import procrustes
from scipy.stats import ortho_group

from gtex_vae.analysis.evaluation.seed_stability import (
    chance,
    jaccard,
    linear_cka,
    procrustes_r2,
    sample_neighbours,
)


@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10.0), d=st.integers(2, 6))
def test_rotation_scale_and_shift_change_nothing(seed, scale, d):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(40, d))
    b = scale * a @ ortho_group.rvs(d, random_state=seed) + rng.normal(size=d)
    assert linear_cka(a, b) == pytest.approx(1.0)
    assert procrustes_r2(a, b) == pytest.approx(1.0)
    assert jaccard(sample_neighbours(a, 5), sample_neighbours(b, 5)) == 1.0


@given(seed=st.integers(0, 1000))
def test_procrustes_is_one_minus_scipys_disparity_and_symmetric(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 30, 4))
    assert procrustes_r2(a, b) == pytest.approx(1.0 - procrustes(a, b)[2])
    assert procrustes_r2(a, b) == pytest.approx(procrustes_r2(b, a))


def test_a_stretch_is_seen_by_cka_which_allows_other_numbers_of_dimensions():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(2000, 4))
    assert linear_cka(a, a * [10, 1, 1, 1]) < 0.7
    assert linear_cka(a, np.hstack([a, np.zeros((2000, 3))])) == pytest.approx(1.0)
    assert linear_cka(a, rng.normal(size=(2000, 4))) < 0.02


def test_unrelated_neighbours_agree_as_chance_says():
    rng = np.random.default_rng(1)
    lists = [
        np.array([rng.choice(np.delete(np.arange(200), i), 15, replace=False) for i in range(200)])
        for _ in "ab"
    ]
    assert jaccard(*lists) == pytest.approx(chance(200, 15), abs=0.01)
    assert chance(16, 15) == 1.0  # all the others
