"""Training from disk: the same samples and values as from memory, in an order that depends only on seed and epoch."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gtex_vae.data.datamodule import ExpressionDataModule
from gtex_vae.data.loading.disk import DiskLoader
from gtex_vae.data.loading.disk_matrix import GIB, DiskMatrix, open_larger_than, subset
from gtex_vae.data.simulate.bulk import simulate_gtex
from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import ConfigError, DataError, GtexVaeError

N, G = 300, 80
TIGHT = 4 * 250 * G / GIB  # less than the matrix takes


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    made = simulate_gtex(n_samples=N, n_genes=G, n_donors=40, seed=0)
    made.X = np.ascontiguousarray(made.X, np.float32)
    return made


@pytest.fixture(scope="module")
def path(adata: ad.AnnData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "x.h5ad"
    adata.write_h5ad(file)
    return file


class Numbers:
    """A matrix "on disk" whose rows hold their own number."""

    rows_per_read = 5
    shape = (1000, 1)

    def read(self, rows: np.ndarray, out_ng: np.ndarray) -> None:
        assert (np.diff(rows) > 0).all()
        out_ng[:, 0] = rows


def loader(n: int = 60, batch_size: int = 4, batches: float = 3.5, **more: Any) -> DiskLoader:
    """Over some rows from 100 on, not all neighbours; each buffer holds ``batches`` batches."""
    rows = 100 + np.flatnonzero(np.arange(2 * n) % 3 > 0)[:n]
    arguments = {"shuffle": True, "seed": 5, "memory_gib": batches * 4 * 4 * batch_size / GIB, **more}
    return DiskLoader(Numbers(), rows, Standardizer(1), batch_size=batch_size, **arguments)  # type: ignore[arg-type]


def epoch(batches: DiskLoader) -> list[int]:
    return [int(row) for batch in batches for row in batch.row_n]


def of_epoch(number: int, done: int = 0, **more: Any) -> list[int]:
    return epoch(loader(progress=lambda: (number, done), **more))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 60), batch_size=st.integers(2, 20), batches=st.integers(2, 9), number=st.integers(0, 3)
)
def test_an_epoch_is_a_permutation_without_its_incomplete_batch(
    n: int, batch_size: int, batches: int, number: int
) -> None:
    data = loader(n, batch_size, batches, progress=lambda: (number, 0))
    seen = epoch(data)
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(data.rows.tolist())
    assert len(list(data)) == len(data)
    if n >= batch_size:
        assert len(seen) == n - n % batch_size


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 60), batch_size=st.integers(1, 20), batches=st.integers(2, 9))
def test_without_shuffling_all_rows_come_in_order_every_time(n: int, batch_size: int, batches: int) -> None:
    data = loader(n, batch_size, batches, shuffle=False)
    for _ in range(2):
        assert epoch(data) == data.rows.tolist()
    assert len(list(data)) == len(data)


def test_batches_hold_the_rows_that_they_name() -> None:
    data = list(loader())
    assert len(data) == 15
    for batch in data:
        assert torch.equal(batch.x_nf[:, 0], batch.row_n.float())
    # also after the buffers have been refilled
    assert len({float(x) for batch in data for x in batch.x_nf[:, 0]}) == 60


def test_epochs_and_seeds_differ_and_the_same_seed_repeats() -> None:
    first, second = of_epoch(0), of_epoch(1)
    assert first != second
    assert sorted(first) == sorted(second)
    assert of_epoch(0, seed=6) != first
    torch.randn(7)  # whatever else is drawn
    assert [of_epoch(1), of_epoch(0)] == [second, first]


@settings(max_examples=40, deadline=None)
@given(done=st.integers(0, 15), batches=st.integers(2, 9))
def test_in_the_middle_only_the_rest_of_the_epoch_comes(done: int, batches: int) -> None:
    assert of_epoch(2, done, batches=batches) == of_epoch(2, batches=batches)[4 * done :]


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(8, 60), batch_size=st.integers(2, 4), world_size=st.integers(1, 4), shuffle=st.booleans()
)
def test_ranks_are_disjoint_and_cover(n: int, batch_size: int, world_size: int, shuffle: bool) -> None:
    ranks = [loader(n, batch_size, shuffle=shuffle, rank=r, world_size=world_size) for r in range(world_size)]
    seen = [epoch(rank) for rank in ranks]
    together = list(itertools.chain(*seen))
    assert len(set(together)) == len(together)
    if shuffle:
        assert len({len(list(rank)) for rank in ranks}) == 1
        if n // world_size >= batch_size:
            assert n - len(together) < world_size * batch_size
    else:
        assert sorted(together) == ranks[0].rows.tolist()


def test_one_buffer_for_all_is_a_full_shuffle_and_small_ones_mix_distant_chunks() -> None:
    """Over many epochs every row is equally likely at every place, whatever the buffer."""
    for batches in (2, 100):
        place = np.array([np.argsort(of_epoch(number, batches=batches)) for number in range(300)])
        mean = place.mean(0)  # of a uniform place among 60: 29.5, its error over 300 epochs 1.0
        assert np.abs(mean - 29.5).max() < 4.5
        first = np.array([of_epoch(number, batches=batches)[0] for number in range(300)])
        assert len(set(first)) > 50


def test_a_memory_for_less_than_two_batches_says_what_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"data.memory_gib=.* data.batch_size=4: 1 genes require") as error:
        loader(batches=1.9)
    advice = float(str(error.value).rpartition("data.memory_gib=")[2].split()[0])
    assert len(loader(memory_gib=advice)) > 0
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match=r"data.memory_gib="):
            ExpressionDataModule("x", "x.h5ad", memory_gib=bad)


@pytest.mark.parametrize("kind", ["h5ad", "chunked", "csr", "csc", "float64", "zarr"])
def test_any_store_gives_the_rows_of_memory(adata: ad.AnnData, tmp_path: Path, kind: str) -> None:
    other = adata.copy()
    if kind in ("csr", "csc"):
        other.X = getattr(sp, f"{kind}_matrix")(other.X)
    elif kind == "float64":
        other.X = other.X.astype(np.float64)
    file = tmp_path / ("x.zarr" if kind == "zarr" else "x.h5ad")
    if kind == "zarr":
        other.write_zarr(file)
    else:
        other.write_h5ad(file, compression="gzip" if kind == "chunked" else None)
    matrix = DiskMatrix(file)
    assert matrix.shape == (N, G)
    rows = np.flatnonzero(np.arange(N) % 7 > 2)
    np.testing.assert_array_equal(matrix[rows], adata.X[rows])
    np.testing.assert_array_equal(matrix[rows[:0]], adata.X[:0])
    pd.testing.assert_index_equal(matrix.adata.obs_names, adata.obs_names)
    assert matrix.adata.uns["expression"]["unit"] == adata.uns["expression"]["unit"]


def pair(path: Path, **arguments: Any) -> tuple[ExpressionDataModule, ExpressionDataModule]:
    """The same data in memory and on disk."""
    modules = [
        ExpressionDataModule("x", str(path), batch_size=16, memory_gib=gib, **arguments)
        for gib in (None, 4 * 200 * G / GIB)
    ]
    for module in modules:
        module.setup()
    return modules[0], modules[1]


def test_disk_and_memory_agree_in_split_statistics_and_values(path: Path) -> None:
    memory, disk = pair(path, clip=2.0)
    assert (memory.adata.obs["split"] == disk.adata.obs["split"]).all()
    assert disk.adata.X is None
    assert torch.equal(memory.scaler.center_g, disk.scaler.center_g)
    assert torch.equal(memory.scaler.scale_g, disk.scaler.scale_g)
    assert memory.matrix.x_ng is not None
    for batch in [*disk.train_dataloader(), *disk.val_dataloader()]:
        assert torch.equal(batch.x_nf, memory.matrix.x_ng[batch.row_n])
    trained = {int(row) for batch in disk.train_dataloader() for row in batch.row_n}
    assert trained <= set(disk.rows("train").tolist())
    assert [int(r) for b in disk.val_dataloader() for r in b.row_n] == disk.rows("val").tolist()


def test_what_is_needed_at_once_is_a_part_that_does_not_change(path: Path) -> None:
    memory, disk = pair(path)
    for split in ("train", "test"):
        kept = disk.kept(split)
        assert len(kept) == 25 < len(disk.rows(split))
        assert set(kept) <= set(disk.rows(split))
        assert memory.matrix.x_ng is not None
        assert torch.equal(disk.expression(split), memory.matrix.x_ng[torch.from_numpy(kept)])
        assert list(disk.annotations(split).index) == list(memory.adata.obs_names[kept])
        assert (disk.annotations(split)["split"] == split).all()
    assert len(memory.annotations("test")) == len(memory.expression("test")) == len(memory.rows("test"))
    np.testing.assert_array_equal(subset(np.arange(9), G, 1.0), np.arange(9))


def test_only_what_is_larger_than_the_memory_stays_on_disk(path: Path) -> None:
    assert open_larger_than(path, None) is None
    assert open_larger_than(path, 4 * N * G / GIB) is None
    assert isinstance(open_larger_than(path, TIGHT), DiskMatrix)


def test_quantiles_on_disk_are_refused_with_the_way_out(path: Path) -> None:
    data = ExpressionDataModule("x", str(path), memory_gib=TIGHT, batch_size=8, standardize="robust")
    with pytest.raises(
        ConfigError, match=r"data.standardize=robust requires the matrix in memory.* data.memory_gib"
    ):
        data.setup()


@pytest.mark.parametrize(("value", "split"), [(np.nan, "train"), (np.inf, "test"), (1000.0, "val")])
def test_bad_values_are_found_before_training(path: Path, tmp_path: Path, value: float, split: str) -> None:
    data = ExpressionDataModule("x", str(path))
    data.setup()
    bad = ad.read_h5ad(path)
    row = int(data.rows(split)[3])
    bad.X[row, 7] = value
    bad.write_h5ad(tmp_path / "x.h5ad")
    what = (
        "not on a log2 scale"
        if value == 1000.0
        else f"at sample {bad.obs_names[row]}, gene {bad.var_names[7]}"
    )
    with pytest.raises(DataError, match=what):
        ExpressionDataModule("x", str(tmp_path / "x.h5ad"), memory_gib=TIGHT, batch_size=8).setup()


def cut_short(adata: ad.AnnData, path: Path) -> None:
    adata.write_h5ad(path)
    path.write_bytes(path.read_bytes()[:60_000])


def no_matrix(adata: ad.AnnData, path: Path) -> None:
    ad.AnnData(obs=adata.obs, var=adata.var).write_h5ad(path)


def no_donor(adata: ad.AnnData, path: Path) -> None:
    other = adata.copy()
    del other.obs["donor"]
    other.write_h5ad(path)


def nothing(adata: ad.AnnData, path: Path) -> None:
    """Not there."""


@pytest.mark.parametrize("put", [cut_short, no_matrix, no_donor, nothing])
def test_a_file_that_is_no_processed_data_is_named(adata: ad.AnnData, tmp_path: Path, put: Any) -> None:
    put(adata, tmp_path / "x.h5ad")
    with pytest.raises(GtexVaeError, match=r"x.h5ad") as error:
        ExpressionDataModule("x", str(tmp_path / "x.h5ad"), memory_gib=TIGHT, batch_size=8).setup()
    assert "\n" not in str(error.value)


def test_coordinates_of_a_basis_are_those_of_memory_where_they_fit(path: Path) -> None:
    memory, disk = pair(path)
    basis_fg = torch.linalg.qr(torch.randn(G, 3, generator=torch.Generator().manual_seed(0)))[
        0
    ].T.contiguous()
    for data in (memory, disk):
        data.rotate(basis_fg)
    expected, found = (next(iter(data.val_dataloader())) for data in (memory, disk))
    assert expected.x_nf.shape == (16, 3)
    torch.testing.assert_close(found.x_nf, expected.x_nf)
    torch.testing.assert_close(found.outside_n, expected.outside_n)
    assert torch.equal(found.row_n, expected.row_n)


def test_coordinates_that_do_not_fit_leave_the_genes_in_the_batches(path: Path) -> None:
    disk = pair(path)[1]
    disk.rotate(torch.eye(G))
    batch = next(iter(disk.train_dataloader()))
    assert batch.outside_n is None
    assert batch.x_nf.shape == (16, G)
