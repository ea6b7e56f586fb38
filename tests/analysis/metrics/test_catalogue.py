"""The catalogue and the code that computes metrics agree."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gtex_vae.analysis.metrics import catalogue
from gtex_vae.analysis.metrics.bootstrap import metric_names
from gtex_vae.analysis.metrics.imputation import RATES, key
from gtex_vae.analysis.metrics.interval_table import OVER_GENES
from gtex_vae.analysis.metrics.reconstruction import reconstruction_metrics
from gtex_vae.analysis.metrics.tissue import cluster_metrics
from gtex_vae.inference.intervals import LEVELS


def test_metrics_that_are_computed_have_a_row():
    x_ng = np.random.default_rng(0).normal(size=(12, 5))
    computed = {*reconstruction_metrics(x_ng, 0.5 * x_ng), *map(key, RATES)}
    computed |= cluster_metrics(x_ng, pd.Series(["a", "b"] * 6), seed=0).keys()
    assert computed <= catalogue.METRICS.keys()
    assert tuple(round(100 * level) for level in LEVELS) == catalogue.LEVELS


def test_intervals_are_marked():
    columns = ["entries", "squared", "absolute", "xx", "knn_right", "logreg_right"]
    columns += [f"hidden_squared_{key(rate).rpartition('_')[2]}" for rate in RATES]
    computed = {*metric_names(pd.DataFrame(columns=columns)), *OVER_GENES}
    marked = {row.key for row in catalogue.METRICS.values() if row.interval}
    assert computed == {name for name in marked if not name.startswith("contrastive/")}


def test_direction_and_label_of_any_key():
    assert catalogue.lower_is_better("baseline/knn/reconstruction/mae")
    assert catalogue.lower_is_better("val/loss")
    assert not catalogue.lower_is_better("contrastive/top1")
    assert catalogue.label("contrastive/matched/top1") == "top-1, 20 donors of similar composition"
    assert (
        catalogue.describe("embedding/output_weights/gene/function_auroc/go").label
        == "gene function AUROC (go)"
    )


def test_labels_are_unique():
    labels = [row.label for row in catalogue.METRICS.values()]
    assert len(set(labels)) == len(labels)
