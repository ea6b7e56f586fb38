from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from gtex_vae.analysis.metrics.imputation import imputation_r2
from gtex_vae.data.rows import FilledRows, LazyRows
from gtex_vae.errors import RunError
from gtex_vae.models import pca as pca_module
from gtex_vae.models.pca import PCA


def low_rank(n: int, g: int, rank: int, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    loadings_dg = np.random.default_rng(77).normal(size=(rank, g)) / np.arange(1, rank + 1)[:, None]
    x_ng = random.normal(size=(n, rank)) @ loadings_dg + random.normal(0, noise, (n, g))
    return x_ng.astype(np.float32)


def numpy_pca(x_ng: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
    _, singular, components = np.linalg.svd(
        x_ng.astype(float) - x_ng.mean(0, dtype=float), full_matrices=False
    )
    return components[:d], singular[:d] ** 2 / len(x_ng)


@pytest.mark.parametrize("shape", [(200, 60), (60, 200)])
@pytest.mark.parametrize("randomized", [False, True])
def test_pca_is_the_svd(shape, randomized, monkeypatch):
    if randomized:
        monkeypatch.setattr(pca_module, "EXACT_BELOW", 0)
    d = 8
    x_ng = low_rank(*shape, rank=20, noise=0.05) + 3
    pca = PCA.fit(x_ng, d)
    components, variance = numpy_pca(x_ng, d)
    np.testing.assert_allclose(pca.variance_d, variance, rtol=1e-4)
    np.testing.assert_allclose(np.abs((pca.components_dg * components).sum(1)), 1, atol=1e-3)
    np.testing.assert_allclose(pca.components_dg @ pca.components_dg.T, np.eye(d), atol=1e-5)
    np.testing.assert_allclose(pca.embed(x_ng), (x_ng - pca.mean_g) @ pca.components_dg.T, atol=1e-4)
    every = numpy_pca(x_ng, min(shape))[1]
    assert pca.noise == pytest.approx(every[d:].sum() / (shape[1] - d), rel=1e-3)


def test_randomized_and_exact_capture_the_same_variance_where_the_spectrum_is_flat(monkeypatch):
    x_ng = np.random.default_rng(1).normal(size=(400, 300)).astype(np.float32)
    exact = PCA.fit(x_ng, 10)
    monkeypatch.setattr(pca_module, "EXACT_BELOW", 0)
    assert PCA.fit(x_ng, 10).variance_d.sum() == pytest.approx(exact.variance_d.sum(), rel=2e-3)


def test_pca_does_not_depend_on_the_order_of_samples():
    x_ng = low_rank(100, 40, rank=10, noise=0.1)
    shuffled = PCA.fit(x_ng[::-1], 4)
    np.testing.assert_allclose(shuffled.components_dg, PCA.fit(x_ng, 4).components_dg, atol=1e-4)


@pytest.mark.parametrize("asked", [39, 40, 1000])
def test_more_components_than_exist_reconstruct_the_training_samples(asked):
    x_ng = low_rank(40, 90, rank=60)
    pca = PCA.fit(x_ng, asked)
    assert pca.components_dg.shape == (39, 90)
    np.testing.assert_allclose(pca.reconstruct(x_ng), x_ng, atol=1e-3)


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_imputation_recovers_hidden_entries_of_low_rank_data(rate):
    x_ng = low_rank(300, 200, rank=5)
    pca = PCA.fit(x_ng, 5)
    new_ng = low_rank(50, 200, rank=5, seed=1)
    hidden_ng = np.random.default_rng(2).random(new_ng.shape) < rate
    garbage_ng = np.where(hidden_ng, np.float32(1e6), new_ng)
    assert imputation_r2(new_ng, pca.reconstruct(garbage_ng, ~hidden_ng), hidden_ng) > 0.9999


def test_imputation_is_the_conditional_mean_of_probabilistic_pca():
    x_ng = low_rank(2000, 30, rank=3, noise=0.5)
    pca = PCA.fit(x_ng, 3)
    w_gd = (pca.components_dg * np.sqrt(pca.variance_d - pca.noise)[:, None]).T.astype(float)
    covariance_gg = w_gd @ w_gd.T + pca.noise * np.eye(30)
    sample_g = low_rank(1, 30, rank=3, noise=0.5, seed=3)[0]
    hidden_g = np.arange(30) % 3 == 0
    seen_g = ~hidden_g
    expected = pca.mean_g[hidden_g] + covariance_gg[np.ix_(hidden_g, seen_g)] @ np.linalg.solve(
        covariance_gg[np.ix_(seen_g, seen_g)], (sample_g - pca.mean_g)[seen_g]
    )
    completed = pca.reconstruct(sample_g[None], seen_g[None])[0]
    np.testing.assert_allclose(completed[hidden_g], expected, atol=2e-3)


def test_nothing_observed_gives_the_mean():
    pca = PCA.fit(low_rank(50, 20, rank=4, noise=0.1), 4)
    blank = pca.reconstruct(np.ones((2, 20), np.float32), np.zeros((2, 20), bool))
    np.testing.assert_allclose(blank, np.broadcast_to(pca.mean_g, (2, 20)), atol=1e-6)


def test_pca_of_rows_read_in_blocks_is_that_of_the_matrix(monkeypatch):
    x_ng = low_rank(150, 60, rank=6, noise=0.3)
    whole = PCA.fit(x_ng, 3)
    monkeypatch.setattr("gtex_vae.models.pca.EXACT_BELOW", 10)
    monkeypatch.setattr("gtex_vae.models.pca.BLOCK", 32)
    lengths: list[int] = []

    def read(rows: np.ndarray) -> np.ndarray:
        lengths.append(len(rows))
        return x_ng[rows]

    blocks = PCA.fit(LazyRows(x_ng.shape, read), 3)
    assert max(lengths) == 32
    np.testing.assert_allclose(np.abs(blocks.components_dg @ whole.components_dg.T), np.eye(3), atol=1e-2)
    np.testing.assert_allclose(blocks.variance_d, whole.variance_d, rtol=1e-3)
    assert blocks.noise == pytest.approx(whole.noise, rel=1e-3)
    np.testing.assert_allclose(blocks.mean_g, x_ng.mean(axis=0), atol=1e-5)


def test_pca_of_rows_read_in_blocks_holds_a_part_of_the_matrix_at_a_time(monkeypatch):
    n, g = 4000, 1500
    x_ng = np.random.default_rng(0).standard_normal((n, g), dtype=np.float32)

    def fill(rows, out_ng):
        np.take(x_ng, rows, axis=0, out=out_ng, mode="clip")

    monkeypatch.setattr(pca_module, "BLOCK_VALUES", n * g // 20)
    PCA.fit(FilledRows((n, g), fill), 4)  # imports
    tracemalloc.start()
    try:
        PCA.fit(FilledRows((n, g), fill), 4)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.25 * x_ng.nbytes


def test_a_saved_pca_is_the_same_to_the_bit(tmp_path):
    pca = PCA.fit(low_rank(60, 40, rank=10, noise=0.1), 8).leading(5)
    pca.save(tmp_path / "pca.safetensors")
    found = PCA.load(tmp_path / "pca.safetensors")
    for name in ("mean_g", "components_dg", "variance_d"):
        np.testing.assert_array_equal(getattr(found, name), getattr(pca, name))
    assert found.noise == pca.noise
    (tmp_path / "pca.safetensors").write_bytes(b"x")
    with pytest.raises(RunError, match="Delete it to fit the PCA again"):
        PCA.load(tmp_path / "pca.safetensors")
