from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gtex_vae.analysis.metrics.tissue import (
    accuracy,
    cluster_metrics,
    expression_predict,
    knn_predict,
    logreg_predict,
)


def blobs(
    n: int, k: int = 6, d: int = 5, spread: float = 0.1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    centres_kd = 3 * np.random.default_rng(99).normal(size=(k, d))
    labels = random.integers(k, size=n)
    return (centres_kd[labels] + random.normal(0, spread, (n, d))).astype(np.float32), labels.astype(str)


@pytest.mark.parametrize("predict", [knn_predict, logreg_predict, expression_predict])
def test_separable_blobs_are_told_apart_and_shuffled_labels_are_chance(predict):
    z_train, train = blobs(600)
    z_test, test = blobs(600, seed=1)
    assert accuracy(predict(z_train, z_test, train), test) == 1
    shuffled = np.random.default_rng(2).permutation(train)
    # all test samples of a blob have the same neighbours, so their predictions are not independent
    assert accuracy(predict(z_train, z_test, shuffled), test) < 0.5


@pytest.mark.parametrize("predict", [knn_predict, logreg_predict, expression_predict])
def test_accuracy_ignores_the_order_of_samples_and_dimensions(predict):
    z_train, train = blobs(400, spread=2)
    z_test, test = blobs(300, spread=2, seed=1)
    random = np.random.default_rng(3)
    a, b, d = random.permutation(400), random.permutation(300), random.permutation(5)
    value = accuracy(predict(z_train, z_test, train), test)
    assert 0.3 < value < 1
    assert accuracy(predict(z_train[a][:, d], z_test[b][:, d], train[a]), test[b]) == pytest.approx(
        value, abs=1 / 300
    )


def test_logistic_regression_ignores_shift_and_scale_of_dimensions():
    z_train, train = blobs(400, spread=2)
    z_test, test = blobs(300, spread=2, seed=1)
    scale_d, shift_d = np.array([1e-3, 1, 10, 100, 5e3]), np.arange(5) * 7.0
    value = accuracy(logreg_predict(z_train, z_test, train), test)
    moved = logreg_predict(z_train * scale_d + shift_d, z_test * scale_d + shift_d, train)
    assert accuracy(moved, test) == pytest.approx(value, abs=1 / 300)


def test_constant_dimensions_do_not_disturb_the_classifier():
    z_train, train = blobs(200)
    z_test, test = blobs(200, seed=1)
    rounding = 0.1 + np.random.default_rng(4).normal(0, 1e-12, (400, 300))
    rounding[200:] += 1e-6
    predicted = logreg_predict(
        np.hstack([z_train, rounding[:200]]), np.hstack([z_test, rounding[200:]]), train
    )
    assert accuracy(predicted, test) == 1


def test_of_a_wide_training_matrix_no_more_than_one_copy_is_made():
    import tracemalloc

    random = np.random.default_rng(8)
    x_train, x_test = (random.normal(size=(n, 20_000)).astype(np.float32) for n in (500, 10))
    logreg_predict(x_train[:40, :40], x_test[:, :40], ["a", "b"] * 20, max_iter=1)  # imports
    tracemalloc.start()
    logreg_predict(x_train, x_test, ["a", "b"] * 250, max_iter=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert x_train.nbytes <= peak < 1.3 * x_train.nbytes


def test_a_single_training_label_is_always_predicted():
    assert list(logreg_predict(np.zeros((3, 2)), np.zeros((2, 2)), ["lung"] * 3)) == ["lung"] * 2


def test_labels_unknown_to_training_are_errors_and_missing_ones_are_left_out():
    z_train, train = blobs(300)
    z_test, test = blobs(100, seed=1)
    predicted = knn_predict(z_train, z_test, train)
    assert accuracy(predicted, np.where(np.arange(100) < 25, "never seen", test)) == 0.75
    assert accuracy(np.where(np.arange(100) < 25, "wrong", predicted), test) == 0.75
    missing = pd.Series(np.where(np.arange(100) < 25, None, test))
    assert accuracy(np.where(np.arange(100) < 25, "wrong", predicted), missing) == 1
    assert np.isnan(accuracy(predicted, pd.Series([None] * 100)))


def test_clusters_of_blobs_and_of_noise():
    z, labels = blobs(500)
    found = cluster_metrics(z, labels)
    assert found["cluster/ari"] == found["cluster/nmi"] == pytest.approx(1)
    assert found["cluster/silhouette_tissue"] > 0.8
    shuffled = cluster_metrics(z, np.random.default_rng(5).permutation(labels))
    assert abs(shuffled["cluster/ari"]) < 0.02
    assert shuffled["cluster/silhouette_tissue"] < 0
    assert cluster_metrics(z, ["one"] * 500) == {}
    assert cluster_metrics(z, np.arange(500)) == {}
