"""Simulated cells match their truth, and have the genes of the bulk demo."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from gtex_vae.data.simulate.bulk import simulate_gtex
from gtex_vae.data.simulate.cell_world import CELL_TYPES
from gtex_vae.data.simulate.cells import simulate_singlecell
from gtex_vae.errors import ConfigError


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    return simulate_singlecell(n_donors=30, n_genes=200, cells_per_donor=200, seed=2)


def test_same_seed_same_cells_and_another_seed_others_of_the_same_genes() -> None:
    first, again, other = (simulate_singlecell(n_donors=3, n_genes=60, seed=seed) for seed in (1, 1, 2))
    assert (first.X != again.X).nnz == 0
    pd.testing.assert_frame_equal(first.obs, again.obs)
    assert first.shape[0] != other.shape[0] or (first.X != other.X).nnz > 0
    assert list(first.var_names) == list(other.var_names)


def test_genes_are_those_of_the_bulk_data() -> None:
    bulk = simulate_gtex(n_samples=40, n_genes=200)
    singles = simulate_singlecell(n_donors=2, n_genes=200)
    for column in ("gene_name", "biotype", "module", "truth_loading"):
        pd.testing.assert_series_equal(singles.var[column], bulk.var[column])
    # cell types are derived from those of the bulk data, so their profiles are similar
    descendant = singles.varm["truth_profiles"]["CD14 Mono"]
    related = [
        np.corrcoef(descendant, bulk.varm["truth_profiles"][name])[0, 1]
        for name in ("macrophage", "adipocyte")
    ]
    assert related[0] > related[1] + 0.1


def test_counts_are_whole_sparse_and_as_deep_as_asked(cells: ad.AnnData) -> None:
    assert sp.issparse(cells.X) and cells.X.format == "csr" and cells.X.dtype == np.float32
    assert (cells.X.data == np.rint(cells.X.data)).all() and cells.X.data.min() >= 1
    # the mean of size_c over few frequent types varies (lognormal, log sd 0.3)
    assert 600 < cells.X.sum(axis=1).mean() < 1600


def test_annotations(cells: ad.AnnData) -> None:
    assert list(cells.obs.columns[:5]) == ["donor", "cell_type", "sex", "age", "batch"]
    assert cells.obs_names.is_unique and not cells.obs.isna().any().any()
    per_donor = cells.obs.groupby("donor", observed=True)[["sex", "age", "batch", "tissue"]].nunique()
    assert (per_donor == 1).all().all()
    assert cells.obs.groupby("batch", observed=True)["donor"].nunique().max() == 14
    assert set(cells.obs["cell_type"]) <= {name for name, *_ in CELL_TYPES[:8]}


def test_composition_is_drawn_from_the_stated_proportions(cells: ad.AnnData) -> None:
    truth = cells.uns["truth_proportions"]
    found = pd.crosstab(cells.obs["donor"], cells.obs["cell_type"]).reindex(
        index=truth.index, columns=truth.columns
    )
    n = found.sum(axis=1).to_numpy()[:, None]
    z = (found - n * truth) / np.sqrt(n * truth * (1 - truth) + 0.5)
    assert np.abs(z.to_numpy()).max() < 5.5
    np.testing.assert_allclose(truth.sum(axis=1), 1.0)


def test_composition_parameter_is_the_dirichlets_concentration() -> None:
    arguments = {"n_donors": 800, "n_cell_types": 4, "cells_per_donor": 1, "n_genes": 50}
    share = simulate_singlecell(**arguments, composition=5.0).uns["truth_proportions"]
    mean = np.array([frequency for _, frequency, _ in CELL_TYPES[:4]])
    mean = mean / mean.sum()
    np.testing.assert_allclose(share.mean(), mean, atol=0.03)
    # variance of a Dirichlet with parameters a m: m (1 - m) / (a + 1)
    np.testing.assert_allclose(share.var(), mean * (1 - mean) / 6.0, rtol=0.2)


def test_poisson_without_overdispersion_and_negative_binomial_with_it() -> None:
    def excess(overdispersion: float) -> float:
        """Estimate the overdispersion from the cells of one type of one donor."""
        cells = simulate_singlecell(
            n_donors=1,
            n_cell_types=1,
            cells_per_donor=3000,
            n_genes=50,
            overdispersion=overdispersion,
            depth=2000.0,
        )
        x_ig = cells.X.toarray()
        share_g = x_ig.mean(axis=0) / x_ig.sum(axis=1).mean()
        rate_ig = x_ig.sum(axis=1, keepdims=True) * share_g
        frequent = (share_g > 0.005) & (share_g < 0.05)
        return float(
            np.median((((x_ig - rate_ig) ** 2 - rate_ig).mean(axis=0) / (rate_ig**2).mean(axis=0))[frequent])
        )

    assert abs(excess(0.0)) < 0.03
    assert excess(0.5) == pytest.approx(0.5, abs=0.15)


def test_alleles_change_expression_as_stated() -> None:
    cells = simulate_singlecell(
        n_donors=150,
        n_cell_types=1,
        cells_per_donor=60,
        n_genes=300,
        genetic=3.0,
        noise=0.05,
        activity=0.0,
        seed=4,
    )
    donor = cells.obs["donor"].cat.codes.to_numpy(np.int64)
    one_of = sp.csr_matrix((np.ones(len(donor)), (donor, np.arange(len(donor)))))
    total = (one_of @ cells.X).toarray()
    log_dg = np.log2(total / total.sum(axis=1, keepdims=True) * 1e6 + 1)
    effect_g = cells.varm["truth_eqtl"].to_numpy()[:, 0]
    dosage_dg = cells.uns["truth_dosage"].astype(float)
    wanted = np.flatnonzero((np.abs(effect_g) > 0.4) & (log_dg.mean(axis=0) > 9))
    assert wanted.size >= 5
    for g in wanted:
        slope = np.polyfit(dosage_dg[:, g], log_dg[:, g], 1)[0]
        assert slope == pytest.approx(effect_g[g], abs=0.3)


def test_shared_part_of_the_factors() -> None:
    def correlation(shared: float) -> float:
        """Correlate a module's activity between two cell types, over donors."""
        activity = simulate_singlecell(
            n_donors=300, n_cell_types=2, cells_per_donor=1, n_genes=60, shared=shared
        )
        first, second = activity.uns["truth_activity"][:, 0], activity.uns["truth_activity"][:, 1]
        return float(np.mean([np.corrcoef(first[:, m], second[:, m])[0, 1] for m in range(first.shape[1])]))

    assert correlation(1.0) == pytest.approx(1.0)
    assert abs(correlation(0.0)) < 0.15
    assert 0.25 < correlation(0.6) < 0.75


def test_it_can_be_written_and_read(tmp_path: Path) -> None:
    cells = simulate_singlecell(n_donors=2, n_genes=60)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    again = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert (cells.X != again.X).nnz == 0
    pd.testing.assert_frame_equal(
        cells.uns["truth_proportions"], again.uns["truth_proportions"], check_names=False
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_cell_types", 30),
        ("n_donors", 0),
        ("shared", 1.5),
        ("composition", 0),
        ("depth", "deep"),
        ("n_genes", 10),
    ],
)
def test_impossible_arguments_are_named(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{key}={value!r}"):
        simulate_singlecell(**{key: value})
