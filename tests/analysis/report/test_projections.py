from __future__ import annotations

import numpy as np
import pytest

from gtex_vae.analysis.report import projections


def islands(n: int = 90, d: int = 6) -> np.ndarray:
    """Make three well separated groups."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, d)) + 30.0 * np.eye(d)[np.arange(n) * 3 // n]


def test_pca_map_keeps_the_two_largest_variances():
    z_nd = islands()
    xy_n2 = projections.pca_map(z_nd)
    largest = np.sort(np.linalg.eigvalsh(np.cov(z_nd.T)))[::-1][:2]
    np.testing.assert_allclose(np.var(xy_n2, axis=0, ddof=1), largest, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("project", [projections.umap_map, projections.tsne_map])
def test_an_embedding_of_one_dimension_has_a_map(project):
    assert np.isfinite(project(islands(n=12)[:, :1])).all()


@pytest.mark.slow
@pytest.mark.parametrize("project", [projections.umap_map, projections.tsne_map])
def test_map_is_seeded_and_keeps_groups_apart(project):
    z_nd = islands()
    xy_n2 = project(z_nd, seed=3)
    np.testing.assert_array_equal(xy_n2, project(z_nd, seed=3))
    distance_nn = np.linalg.norm(xy_n2[:, None] - xy_n2[None], axis=2) + 1e9 * np.eye(len(xy_n2))
    group_n = np.arange(90) // 30
    assert (group_n[distance_nn.argmin(1)] == group_n).all()
