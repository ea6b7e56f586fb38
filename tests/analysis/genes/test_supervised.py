"""Gene sets predicted by support vector machines: the published protocol, and AUROC 0.5 without a signal."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gtex_vae.analysis.genes.benchmark import gene_benchmark
from gtex_vae.analysis.genes.supervised import _gaussian_kernel, draw_tasks, supervised_table


def modules(g: int = 600, size: int = 30) -> dict[str, np.ndarray]:
    return {f"m{i:02d}": np.arange(i * size, (i + 1) * size) for i in range(g // size)}


def test_tasks_hold_out_a_fifth_and_take_ten_negatives_to_a_member():
    members = modules() | {"small": np.arange(19)}
    tasks = draw_tasks({"a": members}, 100)
    assert [task.name for task in tasks] == sorted(set(members) - {"small"})
    for task in tasks:
        genes = members[task.name]
        assert set(task.gene_i[task.positive_i]) == set(genes)
        assert len(task.gene_i) == len(set(task.gene_i)) == 11 * len(genes)
        for label in (True, False):
            folds = pd.Series(task.fold_i[task.positive_i == label]).value_counts(normalize=True)
            assert abs(folds[-1] - 0.2) < 0.01
            assert folds[[0, 1, 2]].between(0.25, 0.28).all()


def test_terms_are_shared_among_collections():
    tasks = draw_tasks({"large": modules(600), "small": modules(90)}, 10)
    counts = pd.Series([task.collection for task in tasks]).value_counts()
    assert counts.to_dict() == {"large": 7, "small": 3}
    assert draw_tasks({"a": modules()}, 0) == []


def test_kernel_is_that_of_scikit_learn():
    from sklearn.metrics.pairwise import rbf_kernel

    x_id = np.random.default_rng(0).normal(5.0, 2.0, (40, 6))
    fitted_i = np.arange(40) < 30
    expected = rbf_kernel(x_id, gamma=1 / (6 * x_id[fitted_i].var()))
    np.testing.assert_allclose(_gaussian_kernel(x_id, fitted_i), expected, atol=1e-5)


def test_planted_sets_are_predicted_and_noise_is_not():
    random = np.random.default_rng(0)
    members = modules(300)
    noise_gd = random.normal(size=(300, 6))
    planted_gd = noise_gd.copy()
    for number, genes in enumerate(members.values()):
        planted_gd[genes] += 3.0 * np.random.default_rng(number).normal(size=6)
    table = supervised_table({"planted": planted_gd, "noise": noise_gd}, draw_tasks({"a": members}, 6))
    assert table["planted"].mean() > 0.95
    assert abs(table["noise"].mean() - 0.5) < 0.15


def test_benchmark_tells_what_level_and_chance_alone_give():
    """One embedding contains the modules, one only the level; modules have strong or weak genes."""
    random = np.random.default_rng(0)
    level_g = np.linspace(-1, 1, 600)
    members = {f"m{i:02d}": random.choice(300, 20, replace=False) + 300 * (i % 2) for i in range(20)}
    level_gd = np.column_stack([level_g, 0.3 * random.normal(size=(600, 2))])
    module_gd = random.normal(size=(600, 12))
    for genes in members.values():
        module_gd[genes] += 1.5 * random.normal(size=12)
    judged = gene_benchmark(
        {"loadings": module_gd, "pca": level_gd},
        {"a": members},
        level_g,
        prefixes={"loadings": "", "pca": "baseline/pca/"},
        supervised_terms=2,
    )
    table = judged.tables["gene_function"].loc["a"]
    loadings, level = table.loc["loadings"], table.loc["pca"]
    assert level["auroc"] > 0.65
    assert abs(level["matched"] - 0.5) < 0.05
    assert level["null_low"] > 0.6
    assert loadings["matched"] > 0.7
    assert abs(loadings["null"] - 0.5) < 0.03
    assert loadings["p"] == 1 / 21
    assert loadings["low"] < loadings["auroc"] < loadings["high"]
    assert loadings["minus_pca"] == loadings["auroc"] - level["auroc"]
    assert judged.metrics["gene/function_auroc"] == loadings["auroc"]
    assert judged.metrics["baseline/pca/gene/function_auroc_matched/a"] == level["matched"]
    assert len(judged.tables["gene_supervised"]) == 2
