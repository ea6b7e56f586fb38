from __future__ import annotations

import numpy as np

from gtex_vae.analysis.genes.neighbours import cosine_neighbours


def test_neighbours_across_blocks_are_those_of_the_whole_matrix(monkeypatch):
    monkeypatch.setattr("gtex_vae.analysis.genes.neighbours.GENES_AT_A_TIME", 7)
    embedding_gd = np.random.default_rng(0).normal(size=(40, 5))
    unit_gd = embedding_gd / np.linalg.norm(embedding_gd, axis=1, keepdims=True)
    similarity_gg = unit_gd @ unit_gd.T
    np.fill_diagonal(similarity_gg, -2)
    index_gk, cosine_gk = cosine_neighbours(embedding_gd, 6)
    np.testing.assert_array_equal(index_gk, np.argsort(-similarity_gg, axis=1)[:, :6])
    np.testing.assert_allclose(cosine_gk, -np.sort(-similarity_gg, axis=1)[:, :6], atol=1e-6)


def test_no_more_neighbours_than_other_genes():
    index_gk, _ = cosine_neighbours(np.eye(3), 10)
    assert index_gk.shape == (3, 2)
    assert cosine_neighbours(np.eye(1), 10)[0].shape == (1, 0)
