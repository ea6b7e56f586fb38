from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gtex_vae.analysis.baselines import Mean
from gtex_vae.analysis.evaluation.score import Scores, score_methods
from gtex_vae.analysis.metrics.bootstrap import draw_donors, gene_interval, interval, metric, metric_names
from gtex_vae.analysis.metrics.reconstruction import reconstruction_metrics
from gtex_vae.models.pca import PCA


@pytest.fixture(scope="module")
def scored() -> tuple[Scores, pd.Series]:
    random = np.random.default_rng(0)
    labels = random.integers(3, size=300)
    x_ng = (
        random.normal(size=(300, 4)) @ random.normal(size=(4, 50)) + random.normal(size=(300, 50))
    ).astype("f4")
    x_ng += labels[:, None] * np.linspace(-1, 1, 50, dtype="f4")
    obs = pd.DataFrame({"tissue": labels.astype(str), "donor": (np.arange(300) // 5).astype(str)})
    obs.loc[::17, "tissue"] = None
    train, test = slice(0, 200), slice(200, 300)
    methods = {"": PCA.fit(x_ng[train], 4), "baseline/mean/": Mean(), "small/": PCA.fit(x_ng[train], 1)}
    return score_methods(methods, x_ng[train], x_ng[test], obs[train], obs[test]), obs[test]["donor"]


def test_the_value_is_the_metric_itself(scored):
    scores, donors = scored
    names = metric_names(scores.samples[""])
    assert set(names) == {
        *(f"reconstruction/{what}" for what in ("mse", "mae", "r2")),
        *(f"imputation/r2_{rate}" for rate in ("05", "20", "50")),
        "tissue/knn_accuracy",
        "tissue/logreg_accuracy",
    }
    for name in names:
        found = interval(name, scores.samples[""], donors, resamples=200)
        assert found.value == pytest.approx(scores.metrics[name], rel=1e-6)
        assert found.low < found.value < found.high
        assert metric_names(scores.samples["baseline/mean/"]) == [n for n in names if "tissue" not in n]


def test_a_method_against_itself_differs_by_nothing(scored):
    scores, donors = scored
    same = interval("reconstruction/r2", scores.samples[""], donors, against=scores.samples[""])
    assert same == (0, 0, 0)


def test_pairing_narrows_the_difference_and_its_sign_turns_with_the_order(scored):
    scores, donors = scored
    large, small = scores.samples[""], scores.samples["small/"]
    forth = interval("reconstruction/mse", large, donors, against=small)
    back = interval("reconstruction/mse", small, donors, against=large)
    assert forth.high < 0 < back.low
    assert back == pytest.approx((-forth.value, -forth.high, -forth.low))
    alone = interval("reconstruction/mse", large, donors), interval("reconstruction/mse", small, donors)
    assert forth.high - forth.low < sum(found.high - found.low for found in alone)


def test_standard_error_of_a_mean_over_donors():
    random = np.random.default_rng(1)
    samples = pd.DataFrame({"squared": random.normal(10, 2, 400), "entries": 1.0})
    found = interval("reconstruction/mse", samples, np.arange(400), resamples=20_000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * samples["squared"].std() / 20, rel=0.04)


def test_samples_of_one_donor_stand_and_fall_together():
    values = np.random.default_rng(2).normal(10, 2, 40)
    repeated = pd.DataFrame({"squared": np.repeat(values, 25), "entries": 1.0})
    donors = np.repeat(np.arange(40), 25)
    once = interval("reconstruction/mse", pd.DataFrame({"squared": values, "entries": 1.0}), np.arange(40))
    assert interval("reconstruction/mse", repeated, donors) == pytest.approx(once)
    careless = interval("reconstruction/mse", repeated, np.arange(1000))
    assert careless.high - careless.low < 0.3 * (once.high - once.low)


def test_resamples_are_seeded_and_draw_as_many_donors_as_there_are():
    counts = draw_donors(30, 500, seed=3)
    assert (counts.sum(axis=1) == 30).all()
    assert abs(counts.mean(axis=0) - 1).max() < 0.3
    np.testing.assert_array_equal(counts, draw_donors(30, 500, seed=3))
    assert (counts != draw_donors(30, 500, seed=4)).any()


def test_undefined_resamples_are_left_out_and_unknown_metrics_refused():
    samples = pd.DataFrame({"knn_right": [True, False, False], "labelled": [True, True, False]})
    found = interval("tissue/knn_accuracy", samples, np.array(["a", "b", "c"]))
    assert found == (0.5, 0, 1)
    with pytest.raises(KeyError, match="gene_r2"):
        metric("reconstruction/gene_r2_median", {"squared": np.zeros(1)})


@pytest.mark.parametrize("name", ["reconstruction/gene_r2_median", "reconstruction/gene_pearson_median"])
def test_medians_over_genes_agree_with_scoring_the_resampled_samples(name):
    random = np.random.default_rng(4)
    x_ng = random.normal(size=(40, 30)).astype("f4")
    x_ng[:, 3] = 2
    y_ng, z_ng = x_ng + random.normal(0, 0.5, x_ng.shape), x_ng + random.normal(0, 0.6, x_ng.shape)
    donors = np.arange(40) // 4
    found = gene_interval(name, x_ng, y_ng, donors, resamples=101, seed=7)
    by_hand = []
    for counts_d in draw_donors(10, 101, seed=7):
        rows = np.repeat(np.arange(40), counts_d[donors].astype(int))
        by_hand.append(reconstruction_metrics(x_ng[rows], y_ng[rows])[name])
    assert found.value == pytest.approx(reconstruction_metrics(x_ng, y_ng)[name])
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])))
    assert gene_interval(name, x_ng, y_ng, donors, against_ng=y_ng, resamples=20) == (0, 0, 0)
    assert gene_interval(name, x_ng, y_ng, donors, against_ng=z_ng).value > 0
