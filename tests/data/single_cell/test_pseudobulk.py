"""Pseudobulk equals a groupby, conserves counts, and does not depend on how the cells are stored or read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from gtex_vae.data.preprocess.processed import check
from gtex_vae.data.simulate.cells import simulate_singlecell
from gtex_vae.data.single_cell.cells import open_cells
from gtex_vae.data.single_cell.mixtures import draw_proportions, mix
from gtex_vae.data.single_cell.pseudobulk import make_pseudobulk
from gtex_vae.data.single_cell.sums import sum_groups, to_log2_million
from gtex_vae.errors import ConfigError, DataError
from gtex_vae.paths import shared_dir


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    return simulate_singlecell(n_donors=6, n_cell_types=4, n_genes=80, cells_per_donor=60, seed=1)


def million(x: np.ndarray) -> np.ndarray:
    return np.log2(x / x.sum(axis=1, keepdims=True) * 1e6 + 1)


def same(one: Any, other: Any) -> None:
    """Assert that two results are equal bit for bit."""
    for first, second in ((one.donors, other.donors), (one.profiles, other.profiles)):
        np.testing.assert_array_equal(first.X, second.X)
        pd.testing.assert_frame_equal(first.obs, second.obs)
    pd.testing.assert_frame_equal(one.proportions, other.proportions)


def test_equals_a_pandas_groupby(cells: ad.AnnData) -> None:
    made = make_pseudobulk(cells, min_cells=1, mixtures_per_donor=0)
    frame = pd.DataFrame(cells.X.toarray().astype(np.int64), columns=cells.var_names)
    donor, kind = (cells.obs[name].astype(str).to_numpy() for name in ("donor", "cell_type"))
    by_donor = frame.groupby(donor).sum()
    assert list(made.donors.obs_names) == list(by_donor.index)
    np.testing.assert_allclose(made.donors.X, million(by_donor.to_numpy()), rtol=1e-6)
    by_both = frame.groupby([donor, kind]).sum()
    assert list(zip(made.profiles.obs["donor"], made.profiles.obs["cell_type"], strict=True)) == list(
        by_both.index
    )
    np.testing.assert_allclose(made.profiles.X, million(by_both.to_numpy()), rtol=1e-6)
    share = pd.crosstab(donor, kind, normalize="index")
    np.testing.assert_allclose(made.proportions[list(share.columns)], share)


def test_mean_weighs_every_cell_the_same(cells: ad.AnnData) -> None:
    made = make_pseudobulk(cells, method="mean", min_cells=1, mixtures_per_donor=0)
    x_ig = cells.X.toarray().astype(np.float64)
    x_ig *= 1e6 / x_ig.sum(axis=1, keepdims=True)
    expected = np.log2(pd.DataFrame(x_ig).groupby(cells.obs["donor"].to_numpy(), observed=True).mean() + 1)
    np.testing.assert_allclose(made.donors.X, expected, rtol=1e-5, atol=1e-5)


def test_counts_are_conserved_exactly(cells: ad.AnnData) -> None:
    total = cells.X.sum(dtype=np.float64)
    for disjoint in (False, True):
        made = make_pseudobulk(cells, min_cells=1, mixtures_per_donor=0, disjoint=disjoint)
        parts = made.donors.obs["n_counts"].sum(), made.profiles.obs["n_counts"].sum()
        assert (sum(parts) == total) if disjoint else (parts == (total, total))
        sizes = made.donors.obs["n_cells"].sum(), made.profiles.obs["n_cells"].sum()
        assert (sum(sizes) == cells.n_obs) if disjoint else (sizes == (cells.n_obs, cells.n_obs))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_group_sums_of_any_grouping(n: int, n_groups: int, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x_ig = rng.poisson(0.7, (n, 5)).astype(np.float32)
    group_i = rng.integers(-1, n_groups, n)
    adata = ad.AnnData(sp.csr_matrix(x_ig), var=pd.DataFrame(index=[f"G{g}" for g in range(5)]))
    with open_cells(adata) as opened:
        found = sum_groups(opened, group_i, n_groups, rows=rows)
    expected = np.array([x_ig[group_i == s].sum(axis=0) for s in range(n_groups)])
    np.testing.assert_array_equal(found, expected)
    assert found.dtype.kind == "i"


def test_sums_beyond_float32_and_beyond_int32_are_exact() -> None:
    for value, cells_each, kind in ((1.0, 3, np.int32), (2.0**30, 3, np.int64)):
        x_ig = np.full((cells_each, 1), value)
        x_ig[0] += 2.0**24
        with open_cells(ad.AnnData(x_ig, var=pd.DataFrame(index=["G"]))) as opened:
            found = sum_groups(opened, np.zeros(cells_each, int), 1, rows=1)
        assert found[0, 0] == int(x_ig.sum()) and found.dtype == kind


STORES: dict[str, Callable[[ad.AnnData, Path], Any]] = {}


def store(function: Callable[[ad.AnnData, Path], Any]) -> Callable[[ad.AnnData, Path], Any]:
    STORES[function.__name__] = function
    return function


@store
def dense(cells: ad.AnnData, path: Path) -> ad.AnnData:
    return ad.AnnData(cells.X.toarray(), obs=cells.obs, var=cells.var)


@store
def integers(cells: ad.AnnData, path: Path) -> ad.AnnData:
    return ad.AnnData(cells.X.astype(np.int32), obs=cells.obs, var=cells.var)


@store
def csc(cells: ad.AnnData, path: Path) -> ad.AnnData:
    return ad.AnnData(cells.X.tocsc(), obs=cells.obs, var=cells.var)


@store
def csr_file(cells: ad.AnnData, path: Path) -> Path:
    cells.write_h5ad(path / "cells.h5ad")
    return path / "cells.h5ad"


@store
def csc_file(cells: ad.AnnData, path: Path) -> Path:
    csc(cells, path).write_h5ad(path / "cells.h5ad")
    return path / "cells.h5ad"


@store
def dense_file(cells: ad.AnnData, path: Path) -> str:
    dense(cells, path).write_h5ad(path / "cells.h5ad")
    return str(path / "cells.h5ad")


@store
def backed(cells: ad.AnnData, path: Path) -> ad.AnnData:
    return ad.read_h5ad(csr_file(cells, path), backed="r")


@store
def zarr_sparse(cells: ad.AnnData, path: Path) -> Path:
    ad.AnnData(cells.X, obs=cells.obs, var=cells.var).write_zarr(path / "cells.zarr")
    return path / "cells.zarr"


@store
def zarr_dense(cells: ad.AnnData, path: Path) -> Path:
    dense(cells, path).write_zarr(path / "cells.zarr")
    return path / "cells.zarr"


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("rows", [None, 7])
def test_storage_and_block_size_do_not_matter(
    cells: ad.AnnData, tmp_path: Path, name: str, rows: int | None
) -> None:
    arguments: dict[str, Any] = {"min_cells": 2, "disjoint": True, "mixtures_per_donor": 2}
    same(
        make_pseudobulk(STORES[name](cells, tmp_path), rows=rows, **arguments),
        make_pseudobulk(cells, **arguments),
    )


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("layer", ["counts", "raw"])
def test_counts_in_a_layer_or_in_raw(cells: ad.AnnData, tmp_path: Path, layer: str, on_disk: bool) -> None:
    logs = ad.AnnData(cells.X.copy(), obs=cells.obs, var=cells.var)
    logs.raw = logs.copy()
    logs.layers["counts"] = logs.X.copy()
    logs.X = logs.X.log1p()
    source: Any = logs
    if on_disk:
        source = tmp_path / "logs.h5ad"
        logs.write_h5ad(source)
    same(make_pseudobulk(source, layer=layer), make_pseudobulk(cells))
    with pytest.raises(DataError, match=r"logarithms.*counts, raw"):
        make_pseudobulk(source)
    with pytest.raises(DataError, match=r"no layer 'spliced'"):
        make_pseudobulk(source, layer="spliced")


def test_order_of_the_cells_does_not_matter(cells: ad.AnnData) -> None:
    shuffled = cells[np.random.default_rng(0).permutation(cells.n_obs)].copy()
    same(make_pseudobulk(shuffled), make_pseudobulk(cells))


def test_min_cells(cells: ad.AnnData) -> None:
    n_cells = cells.obs.groupby(["donor", "cell_type"], observed=True).size()
    threshold = int(n_cells.median())
    made = make_pseudobulk(cells, min_cells=threshold)
    kept = n_cells[n_cells >= threshold]
    found = made.profiles.obs.set_index(["donor", "cell_type"])["n_cells"]
    assert found.to_dict() == kept.to_dict() and 0 < len(kept) < len(n_cells)
    assert made.mixing["profiles_below_min_cells"] == len(n_cells) - len(kept)
    mixed = made.proportions[made.proportions["kind"] == "mixture"].set_index("donor").drop(columns="kind")
    used = mixed.stack()
    assert set(used[used > 0].index) <= set(kept.index)


def test_missing_donors_and_types(cells: ad.AnnData) -> None:
    obs = cells.obs.astype(object)
    obs.iloc[:5, obs.columns.get_loc("donor")] = None
    obs.iloc[5:12, obs.columns.get_loc("cell_type")] = np.nan
    made = make_pseudobulk(ad.AnnData(cells.X, obs=obs, var=cells.var), min_cells=1)
    assert made.mixing["cells_without_donor"] == 5 and made.mixing["cells_without_type"] == 7
    assert made.donors.obs["n_cells"][made.donors.obs["kind"] == "measured"].sum() == cells.n_obs - 5
    assert made.profiles.obs["n_cells"].sum() == cells.n_obs - 12


def test_halves_are_even_and_share_no_cell(cells: ad.AnnData) -> None:
    made = make_pseudobulk(cells, disjoint=True, min_cells=1, mixtures_per_donor=0)
    n_cells = cells.obs.groupby("donor", observed=True).size().to_numpy()
    first = made.donors.obs["n_cells"].to_numpy()
    second = made.profiles.obs.groupby("donor", observed=True)["n_cells"].sum().to_numpy()
    np.testing.assert_array_equal(first + second, n_cells)
    # halves may differ by one cell for each of four types
    assert np.abs(first - second).max() <= 4


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_dirichlet_moments(alpha: float) -> None:
    share = draw_proportions(
        np.ones((40, 4), bool), list("ABCD"), 500, concentration=alpha, rng=np.random.default_rng(0)
    ).reshape(-1, 4)
    np.testing.assert_allclose(share.sum(axis=1), 1.0)
    np.testing.assert_allclose(share.mean(axis=0), 0.25, atol=0.01)
    np.testing.assert_allclose(share.var(axis=0), 0.25 * 0.75 / (4 * alpha + 1), rtol=0.08)


def test_shared_proportions_match_between_donors() -> None:
    available = np.ones((3, 4), bool)
    available[2, 0] = False
    share = draw_proportions(available, list("ABCD"), 5, proportions="shared", rng=np.random.default_rng(0))
    np.testing.assert_array_equal(share[0], share[1])
    np.testing.assert_allclose(share[2, :, 1:], share[0, :, 1:] / share[0, :, 1:].sum(axis=1, keepdims=True))
    assert not np.allclose(share[0, 0], share[0, 1])


def test_measured_mixture_of_all_cells_is_the_pseudobulk(cells: ad.AnnData) -> None:
    made = make_pseudobulk(cells, min_cells=1, proportions="measured")
    n = made.mixing["donors"]
    np.testing.assert_allclose(made.donors.X[n:], made.donors.X[:n], rtol=1e-5)
    columns = made.mixing["cell_types"]
    np.testing.assert_allclose(made.proportions[columns][n:], made.proportions[columns][:n])


def test_mixture_of_one_type_is_its_profile(cells: ad.AnnData) -> None:
    made = make_pseudobulk(cells, min_cells=1, proportions={"NK": 2.0})
    mixed = made.donors[made.donors.obs["kind"] == "mixture"]
    profile = made.profiles[made.profiles.obs["cell_type"] == "NK"]
    assert list(mixed.obs["donor"]) == list(profile.obs["donor"]) and mixed.n_obs > 3
    np.testing.assert_allclose(mixed.X, profile.X, rtol=1e-5)


def test_mixtures_are_of_the_stated_proportions(cells: ad.AnnData) -> None:
    made = make_pseudobulk(cells, min_cells=1, mixtures_per_donor=3, seed=5)
    donors = made.donors
    np.testing.assert_allclose((2.0 ** donors.X.astype(float) - 1).sum(axis=1), 1e6, rtol=1e-4)
    of_donor = made.profiles.obs["donor"] == "SC00002"
    profile = made.profiles[of_donor]
    per_cell = (
        (2.0**profile.X - 1) / 1e6 * (profile.obs["n_counts"] / profile.obs["n_cells"]).to_numpy()[:, None]
    )
    share = made.proportions.loc["SC00002_mix3", list(profile.obs["cell_type"])].to_numpy(float)
    expected = million((share @ per_cell)[None])[0]
    np.testing.assert_allclose(donors["SC00002_mix3"].X.ravel(), expected, rtol=1e-4, atol=1e-3)


def test_pooled_mixtures_are_nobodys(cells: ad.AnnData) -> None:
    made = make_pseudobulk(cells, pooled=True, proportions={"NK": 0.5, "CD4 TCM": 0.5})
    mixed = made.donors[made.donors.obs["kind"] == "pooled"]
    assert mixed.n_obs == 6 and mixed.obs["donor"].isna().all()
    kind = cells.obs["cell_type"].to_numpy()
    mean = [cells.X[kind == name].mean(axis=0) for name in ("NK", "CD4 TCM")]
    expected = million(np.asarray(mean[0] + mean[1], np.float64))
    np.testing.assert_allclose(mixed.X, np.repeat(expected, 6, axis=0), rtol=1e-5)


def test_the_seed_decides_halves_and_mixtures(cells: ad.AnnData) -> None:
    first, again, other = (
        make_pseudobulk(cells, disjoint=True, min_cells=1, seed=seed) for seed in (1, 1, 2)
    )
    same(first, again)
    n = first.mixing["donors"]
    assert not np.array_equal(first.donors.X[:n], other.donors.X[:n])
    assert not np.array_equal(first.proportions[["NK"]][n:], other.proportions[["NK"]][n:])


def test_what_comes_out_is_a_processed_anndata(cells: ad.AnnData) -> None:
    made = make_pseudobulk(cells)
    for adata in (made.donors, made.profiles):
        check(adata, "made")
        assert next(iter(adata.obs.columns)) == "donor" and adata.X.dtype == np.float32
        assert {"tissue", "tissue_group", "sex", "age", "n_cells"} <= set(adata.obs)
        assert adata.uns["expression"]["unit"] == "log2(TPM+1)"
        assert list(adata.var_names) == list(cells.var_names)
        assert set(adata.var["biotype"]) == {"protein_coding"}
    assert set(made.donors.obs["tissue"]) == {"Whole Blood"}
    assert set(made.donors.obs["sex"]) <= {"female", "male"}


def test_genes_become_unversioned_ids_and_y_copies_are_added() -> None:
    labels = [
        "TP53",
        "ENSG00000111640.15",
        "ENSG00000182378.14",
        "ENSG00000182378.14_PAR_Y",
        "no gene",
        "GAPDH",
    ]
    x_ig = np.array([[1, 20, 3, 4, 5, 6], [10, 2, 30, 40, 50, 60]], np.float32)
    obs = pd.DataFrame({"donor_id": ["a", "b"], "CellType": ["T", "T"]}, index=["1", "2"])
    made = make_pseudobulk(
        ad.AnnData(x_ig, obs=obs, var=pd.DataFrame(index=labels)), min_cells=1, tissue="Blood"
    )
    assert list(made.donors.var["gene_name"]) == ["TP53", "GAPDH", "PLCXD1"]
    assert list(made.donors.var_names)[1:] == ["ENSG00000111640", "ENSG00000182378"]
    np.testing.assert_allclose(made.profiles.X, million(np.array([[1.0, 20, 7], [10, 2, 70]])), rtol=1e-6)
    assert set(made.donors.obs["tissue"]) == {"Blood"}
    assert made.mixing["genes"]["dropped"] == {"unknown gene": 1, "duplicate of a gene": 1}


def test_missing_columns_are_named_and_those_there_listed(cells: ad.AnnData) -> None:
    bare = ad.AnnData(cells.X, obs=cells.obs[["sex", "cell_type"]], var=cells.var)
    with pytest.raises(
        DataError, match=r"looks like donor.*it has sex, cell_type: name one with donor=COLUMN"
    ):
        make_pseudobulk(bare)
    with pytest.raises(DataError, match=r"no column cell_type=kind; it has donor, cell_type, sex"):
        make_pseudobulk(cells, cell_type="kind")


def spoiled(cells: ad.AnnData, value: float) -> ad.AnnData:
    x_ig = cells.X.toarray()
    x_ig[17, 3] = value
    return ad.AnnData(x_ig, obs=cells.obs, var=cells.var)


@pytest.mark.parametrize(("value", "message"), [(np.nan, "missing or infinite"), (-1.0, "negative")])
def test_values_that_are_no_counts(cells: ad.AnnData, value: float, message: str) -> None:
    with pytest.raises(DataError, match=rf"{message} values in cells 14 to 20"):
        make_pseudobulk(spoiled(cells, value), rows=7)


def test_an_empty_matrix_is_refused(cells: ad.AnnData) -> None:
    empty = ad.AnnData(0 * cells.X, obs=cells.obs, var=cells.var, layers={"counts": cells.X})
    with pytest.raises(
        DataError, match=r"every count is zero; give layer= of the counts \(there are X, counts\)"
    ):
        make_pseudobulk(empty)


def test_fractional_counts_are_added_up(cells: ad.AnnData) -> None:
    fractions = ad.AnnData(cells.X * 0.5, obs=cells.obs, var=cells.var)
    assert fractions.X.max() > 30
    np.testing.assert_allclose(
        make_pseudobulk(fractions).donors.X, make_pseudobulk(cells).donors.X, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"proportions": "even"}, "proportions='even'"),
        ({"proportions": {"Neuron": 1.0}}, "no cell type Neuron; there are"),
        ({"proportions": {"NK": -1.0}}, "at least 0"),
        ({"proportions": "measured", "mixtures_per_donor": 2}, "would be equal"),
        ({"concentration": 0.0}, "concentration=0"),
        ({"min_cells": 0}, "min_cells=0"),
        ({"method": "median"}, "method='median'"),
    ],
)
def test_impossible_arguments(cells: ad.AnnData, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_pseudobulk(cells, **arguments)


def test_files_that_are_no_anndata(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        make_pseudobulk(tmp_path / "none.h5ad")
    (tmp_path / "text.h5ad").write_text("hello")
    with pytest.raises(DataError, match="damaged or not an AnnData"):
        make_pseudobulk(tmp_path / "text.h5ad")


def test_rows_of_zeros_stay_zero() -> None:
    assert not to_log2_million(np.zeros((2, 3))).any()
    assert not mix(np.zeros((1, 2)), np.ones((2, 3)), np.array([0, 4])).any()


@pytest.mark.real
def test_real_pbmc_donors() -> None:
    path = shared_dir() / "onek1k" / "onek1k_40donors_1000genes.h5ad"
    if not path.exists():
        pytest.skip(f"{path} is missing: set GTEX_VAE_SHARED")
    made = make_pseudobulk(path, tissue="Whole Blood", disjoint=True, mixtures_per_donor=2)
    measured = made.donors[made.donors.obs["kind"] == "measured"]
    assert measured.n_obs == 40 and made.donors.n_obs == 120
    assert made.mixing["columns"] == {"donor": "indiv", "cell_type": "cell_type"}
    assert made.mixing["cells"] == 7811 and made.mixing["cell_types"] == ["bmem", "cd4nc", "monoc", "mononc"]
    assert set(measured.obs["sex"]) == {"female", "male"} and measured.obs["age"].dtype == np.float32
    # in every donor, monocytes express LYZ, B cells MS4A1 or CD79A
    profiles = made.profiles.to_df().groupby(made.profiles.obs["cell_type"].to_numpy()).mean()
    profiles.columns = made.profiles.var["gene_name"]
    assert 950 <= profiles.shape[1] <= 1000
    for marker, kind in (("LYZ", "monoc"), ("MS4A1", "bmem"), ("CD79A", "bmem"), ("FCGR3A", "mononc")):
        if marker in profiles:
            assert profiles[marker].idxmax() == kind


@pytest.mark.real
def test_real_counts_are_conserved() -> None:
    path = shared_dir() / "onek1k" / "onek1k_40donors_1000genes.h5ad"
    if not path.exists():
        pytest.skip(f"{path} is missing: set GTEX_VAE_SHARED")
    made = make_pseudobulk(path, min_cells=1, mixtures_per_donor=0)
    assert made.mixing["genes"]["dropped"] == {}
    total = ad.read_h5ad(path).X.sum(dtype=np.float64)
    assert made.donors.obs["n_counts"].sum() == total == made.profiles.obs["n_counts"].sum()
