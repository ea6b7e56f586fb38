from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gtex_vae.analysis.metrics.reconstruction import GeneSums, reconstruction_metrics

SHAPES = st.tuples(st.integers(2, 12), st.integers(1, 9))


def pairs(shape: tuple[int, int]) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    values = st.floats(-50, 50, width=32)
    return st.tuples(arrays(np.float32, shape, elements=values), arrays(np.float32, shape, elements=values))


def noisy(n: int = 300, g: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x_ng = random.normal(random.normal(size=g), random.uniform(0.5, 2, g), (n, g))
    return x_ng, x_ng + random.normal(0, 0.5, (n, g))


@given(SHAPES.flatmap(pairs), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_order_of_samples_and_genes_does_not_matter(pair, seed):
    x_ng, y_ng = pair
    random = np.random.default_rng(seed)
    rows, columns = random.permutation(x_ng.shape[0]), random.permutation(x_ng.shape[1])
    before = reconstruction_metrics(x_ng, y_ng)
    after = reconstruction_metrics(x_ng[rows][:, columns], y_ng[rows][:, columns])
    assert after == pytest.approx(before, rel=1e-6, abs=1e-6, nan_ok=True)


@given(SHAPES.flatmap(pairs), st.integers(1, 11))
@settings(max_examples=60, deadline=None)
def test_sums_of_batches_add_up(pair, cut):
    x_ng, y_ng = pair
    parts = GeneSums.of(x_ng[:cut], y_ng[:cut]) + GeneSums.of(x_ng[cut:], y_ng[cut:])
    whole = GeneSums.of(x_ng, y_ng).metrics()
    assert parts.metrics() == pytest.approx(whole, rel=1e-6, abs=1e-6, nan_ok=True)


def test_perfect_is_one_and_the_mean_is_zero():
    x_ng, _ = noisy()
    perfect = reconstruction_metrics(x_ng, x_ng)
    assert perfect["reconstruction/mse"] == perfect["reconstruction/mae"] == 0
    assert perfect["reconstruction/r2"] == perfect["reconstruction/gene_r2_median"] == 1
    assert perfect["reconstruction/gene_pearson_median"] == pytest.approx(1)
    flat = reconstruction_metrics(x_ng, np.full_like(x_ng, x_ng.mean()))
    assert flat["reconstruction/r2"] == pytest.approx(0, abs=1e-12)
    genewise = reconstruction_metrics(x_ng, np.broadcast_to(x_ng.mean(axis=0), x_ng.shape))
    assert genewise["reconstruction/gene_r2_median"] == pytest.approx(0, abs=1e-12)
    assert genewise["reconstruction/gene_pearson_median"] == 0


def test_agrees_with_sklearn_and_scipy():
    from scipy.stats import pearsonr
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    x_ng, y_ng = noisy()
    metrics = reconstruction_metrics(x_ng, y_ng)
    assert metrics["reconstruction/r2"] == pytest.approx(r2_score(x_ng.ravel(), y_ng.ravel()))
    assert metrics["reconstruction/mse"] == pytest.approx(mean_squared_error(x_ng, y_ng))
    assert metrics["reconstruction/mae"] == pytest.approx(mean_absolute_error(x_ng, y_ng))
    per_gene = r2_score(x_ng, y_ng, multioutput="raw_values")
    assert metrics["reconstruction/gene_r2_median"] == pytest.approx(np.median(per_gene))
    correlations = [pearsonr(a, b).statistic for a, b in zip(x_ng.T, y_ng.T, strict=True)]
    assert metrics["reconstruction/gene_pearson_median"] == pytest.approx(np.median(correlations))


def test_constant_genes_take_no_part_in_the_medians():
    x_ng, y_ng = noisy()
    alone = reconstruction_metrics(x_ng, y_ng)
    constant = np.full((len(x_ng), 60), 1234.567)
    beside = reconstruction_metrics(np.hstack([x_ng, constant]), np.hstack([y_ng, constant]))
    for name in ("reconstruction/gene_r2_median", "reconstruction/gene_pearson_median"):
        assert beside[name] == pytest.approx(alone[name])


def test_nothing_varies_is_nan_rather_than_a_figure():
    metrics = reconstruction_metrics(np.ones((3, 2)), np.zeros((3, 2)))
    assert metrics["reconstruction/mse"] == 1
    assert np.isnan(metrics["reconstruction/r2"]) and np.isnan(metrics["reconstruction/gene_r2_median"])
