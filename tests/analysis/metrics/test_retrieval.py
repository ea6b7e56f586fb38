"""Retrieval metrics: perfect, worst, chance, ties."""

from __future__ import annotations

import numpy as np
import pytest

from gtex_vae.analysis.metrics.retrieval import (
    AVERAGED,
    by_pair,
    composition_matched,
    cosine_similarity,
    partner_ranks,
    retrieval_metrics,
)


def test_perfect_and_worst() -> None:
    perfect, worst = retrieval_metrics(np.eye(10)), retrieval_metrics(-np.eye(10))
    assert (perfect["top1"], perfect["top5"], perfect["mrr"], perfect["foscttm"]) == (1, 1, 1, 0)
    assert (worst["top1"], worst["top5"], worst["foscttm"], worst["median_rank"]) == (0, 0, 1, 10)


def test_shuffled_donors_are_chance() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 20))
    figures = [retrieval_metrics(cosine_similarity(x, x[rng.permutation(60)])) for _ in range(300)]
    mean = {key: np.mean([f[key] for f in figures]) for key in figures[0]}
    assert mean["top1"] == pytest.approx(mean["chance_top1"], abs=0.004)
    assert mean["top5"] == pytest.approx(mean["chance_top5"], abs=0.008)
    assert mean["mrr"] == pytest.approx(mean["chance_mrr"], abs=0.006)
    assert mean["foscttm"] == pytest.approx(0.5, abs=0.01)


def test_a_constant_similarity_is_no_better_than_chance() -> None:
    figures = retrieval_metrics(np.ones((9, 9)))
    assert figures["top1"] == 0.0
    assert figures["foscttm"] == 0.5
    assert figures["median_rank"] == 5.0


def test_both_directions_are_averaged() -> None:
    similarity = np.array([[3.0, 2.0], [9.0, 8.0]])  # rows find 1 of 2, columns 1 of 2, other ones
    rows = (partner_ranks(similarity) <= 1).mean()
    columns = (partner_ranks(similarity.T) <= 1).mean()
    figures = retrieval_metrics(similarity)
    assert figures["top1"] == (rows + columns) / 2
    assert figures == pytest.approx(retrieval_metrics(similarity.T))


def test_only_candidates_count() -> None:
    similarity = np.array([[0.5, 0.9, 0.1], [0.0, 0.5, 0.1], [0.0, 0.1, 0.5]])
    candidate = np.ones((3, 3), dtype=bool)
    candidate[0, 1] = False
    assert partner_ranks(similarity).tolist() == [2, 1, 1]
    assert partner_ranks(similarity, candidate).tolist() == [1, 1, 1]
    assert np.isnan(retrieval_metrics(similarity, np.eye(3, dtype=bool))["top1"])


def test_matched_composition_hides_what_composition_gives_away() -> None:
    rng = np.random.default_rng(1)
    twenty_of_five_each = np.repeat(rng.dirichlet(np.ones(6), 20), 5, axis=0)
    left, right = (twenty_of_five_each + 1e-3 * rng.random((100, 6)) for _ in range(2))
    similarity = cosine_similarity(left, right)
    everybody = retrieval_metrics(similarity)
    matched = retrieval_metrics(similarity, composition_matched(twenty_of_five_each, 4))
    assert everybody["top1"] > 10 * everybody["chance_top1"]
    assert matched["candidates"] == 5
    assert matched["top1"] == pytest.approx(matched["chance_top1"], abs=0.15)


@pytest.mark.parametrize("neighbours", [None, 3])
def test_the_mean_over_pairs_is_the_metric(neighbours) -> None:
    rng = np.random.default_rng(2)
    similarity = np.eye(40) + 0.5 * rng.standard_normal((40, 40))
    candidates = (
        None if neighbours is None else composition_matched(rng.dirichlet(np.ones(4), 40), neighbours)
    )
    figures = retrieval_metrics(similarity, candidates)
    added = by_pair(similarity, candidates)
    assert added.shape == (40, 2, len(AVERAGED))
    assert np.nanmean(added, 0).mean(0).tolist() == pytest.approx([figures[key] for key in AVERAGED])
