"""Gene sets along latent dimensions: planted sets are found, and noise is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, norm

from gtex_vae.analysis.genes.enrichment import enrichment, enrichment_table
from gtex_vae.analysis.genes.gene_sets import match
from gtex_vae.data.simulate.bulk import simulate_gtex
from gtex_vae.data.simulate.genes import module_gene_sets


def sets(count: int, g: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {f"set {i}": random.choice(g, random.integers(10, 60), replace=False) for i in range(count)}


@pytest.fixture
def change_gd() -> np.ndarray:
    """Draw heavy-tailed changes whose scale increases with the level, which inflates a naive test."""
    random = np.random.default_rng(1)
    level_g = np.linspace(0.0, 1.0, 2000)
    return random.standard_t(2, (2000, 8)) * (0.2 + level_g[:, None]) + 3.0 * level_g[:, None] ** 2


def test_z_is_that_of_drawn_sets(change_gd):
    """The analytic variance equals that of random draws, for a set of unequal levels."""
    level_g = np.linspace(0.0, 1.0, 2000)
    members = np.concatenate([np.arange(1900, 1990), np.arange(0, 2000, 200)])
    random = np.random.default_rng(2)
    class_g = np.arange(2000) * 20 // 2000
    drawn = {}
    for i in range(2000):
        order = np.argsort(random.random(2000) + class_g)  # shuffled within classes
        drawn[str(i)] = order[members]
    z_sd = enrichment(change_gd, drawn, level_g)
    np.testing.assert_allclose(z_sd.mean(0), 0.0, atol=0.1)
    np.testing.assert_allclose(z_sd.std(0), 1.0, atol=0.06)


def test_permuted_genes_give_uniform_p_and_the_fdr_is_kept(change_gd):
    random = np.random.default_rng(3)
    level_g, members = np.linspace(0.0, 1.0, 2000), sets(60, 2000)
    false, p_values = 0, []
    for _ in range(40):
        shuffled_gd = change_gd[random.permutation(2000)]
        table = enrichment_table(shuffled_gd, {"x": members}, level_g, np.arange(8), kept=1000)
        assert len(table) == 60 * 8
        p_values.append(table.loc[table["dimension"] == "z_0", "p"].to_numpy())
        false += bool((table["q"] < 0.1).any())
    p = np.concatenate(p_values)
    # one dimension only: the others also depend on the level and are not independent
    assert kstest(p, "uniform").pvalue > 0.01
    assert abs((p < 0.05).mean() - 0.05) < 0.015
    # if every null hypothesis is true, the false discovery rate is the probability of any discovery
    assert false <= 10


def test_levels_alone_are_no_enrichment(change_gd):
    """Sets of strongly expressed genes, along a dimension that changes strongly expressed genes."""
    level_g = np.linspace(0.0, 1.0, 2000)
    random = np.random.default_rng(4)
    strong = {str(i): 1400 + random.choice(600, 40, replace=False) for i in range(50)}
    unmatched = enrichment(change_gd, strong, np.random.default_rng(5).random(2000))
    matched = enrichment(change_gd, strong, level_g)
    assert np.abs(unmatched).mean() > 3.0
    assert np.abs(matched).mean() < 1.1


def test_modules_of_the_demo_are_found_with_their_sign():
    """For loadings of a module's true activity its own set ranks first; with negated loadings its sign is minus."""
    adata = simulate_gtex(n_samples=400, n_genes=1000, seed=0)
    x_ng = (adata.X - adata.X.mean(0)) / np.maximum(adata.X.std(0), 0.05)
    activity_nm = adata.obsm["truth_modules"]
    activity_nm = (activity_nm - activity_nm.mean(0)) / activity_nm.std(0)
    modules = match(module_gene_sets(adata), adata.var["gene_name"])
    names = list(modules)
    number = [int(name.rpartition("_")[2]) - 1 for name in names]
    # factors switch several modules at once, so regress on all of them
    change_gm = np.linalg.lstsq(activity_nm[:, number], x_ng, rcond=None)[0].T
    level_g = adata.X.mean(0)
    table = enrichment_table(change_gm, {"modules": modules}, level_g, np.arange(len(names)), kept=1)
    up = table[table["sign"] == "+"].set_index("dimension")
    found = up["set"].to_numpy() == np.array(names)
    assert found.mean() > 0.9
    assert (up["q"][found] < 0.05).mean() > 0.9
    turned = enrichment_table(-change_gm, {"modules": modules}, level_g, np.arange(len(names)), kept=1)
    down = turned[turned["sign"] == "-"].set_index("dimension")
    assert down["set"].tolist() == up["set"].tolist()
    np.testing.assert_allclose(down["score"], -up["score"], atol=1e-9)
    np.testing.assert_allclose(down["p"], 2 * norm.sf(up["score"]), rtol=1e-9)


def test_a_dimension_that_moves_nothing_is_not_tested(change_gd):
    change_gd[:, 3] = 0.0
    table = enrichment_table(change_gd, {"x": sets(20, 2000)}, np.linspace(0, 1, 2000), np.arange(8) + 10)
    assert set(table["dimension"]) == {f"z_{d}" for d in (10, 11, 12, 14, 15, 16, 17)}
    assert table["q"].between(0, 1).all()
