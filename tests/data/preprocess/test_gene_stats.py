"""Moments, prevalence and ranking of genes."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from gtex_vae.data.preprocess.gene_stats import gene_stats, top_variable
from gtex_vae.paths import shared_dir

V6 = shared_dir() / "gtex_v6/gtex_v6.h5ad"
UNIT = "log2(TPM+1)"


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 600), seed=st.integers(0, 9), level=st.sampled_from([0.0, 1e3]))
def test_gene_moments_are_numpys_in_blocks_and_sparse(n, seed, level):
    x = np.random.default_rng(seed).normal(level, 1, (n, 4)).astype(np.float32)
    keep_n = np.random.default_rng(seed).random(n) < 0.7
    keep_n[0] = True
    for layout in (np.asarray, sp.csr_array):
        stats = gene_stats(layout(x), "tpm", keep_n=keep_n)
        kept = x[keep_n].astype(np.float64)
        np.testing.assert_allclose(stats.mean_g, kept.mean(axis=0), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(stats.var_g, kept.var(axis=0), rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(stats.prevalence_g, (x[keep_n] > np.float32(0.1)).mean(axis=0))


def test_hvg_makes_up_for_the_level_that_variance_does_not():
    rng = np.random.default_rng(0)
    # the noise grows with the level; five quiet genes vary far more than others of their level
    level = np.linspace(0.5, 10, 400)
    sd = 0.1 * level
    special = np.arange(5, 50, 10)
    sd[special] *= 5
    x = rng.normal(level, sd, (500, 400)).astype(np.float32)
    stats = gene_stats(x, "tpm")
    assert set(special) <= set(np.flatnonzero(top_variable(stats, 10, rank_by="hvg")))
    assert not set(special) & set(np.flatnonzero(top_variable(stats, 10, rank_by="variance")))
    with pytest.raises(ValueError, match="rank_by='x' must be 'variance' or 'hvg'"):
        top_variable(stats, 1, rank_by="x")


@given(st.integers(0, 12))
def test_top_genes_are_so_many(n_genes):
    stats = gene_stats(np.random.default_rng(0).random((5, 9)).astype(np.float32), "tpm")
    for rank_by in ("variance", "hvg"):
        assert top_variable(stats, n_genes, rank_by=rank_by).sum() == min(n_genes, 9)
