"""DataModule: split, standardization on training rows, and early refusal of impossible values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from gtex_vae.data.datamodule import ExpressionDataModule
from gtex_vae.data.preprocess.processed import read
from gtex_vae.data.simulate.bulk import simulate_gtex
from gtex_vae.data.splits import SPLITS
from gtex_vae.errors import ConfigError, DataError, GtexVaeError, SplitError


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("data") / "x.h5ad"
    simulate_gtex(n_samples=300, n_genes=80, n_donors=40, seed=0).write_h5ad(file)
    return str(file)


def set_up(path: str, **arguments: Any) -> ExpressionDataModule:
    data = ExpressionDataModule("x", path, batch_size=16, **arguments)
    data.setup()
    return data


def test_splits_part_the_samples_and_no_donor_is_in_two(path: str) -> None:
    data = set_up(path)
    rows = [data.rows(split) for split in SPLITS]
    assert sorted(np.concatenate(rows)) == list(range(300))
    assert data.adata.obs.groupby("donor", observed=True)["split"].nunique().max() == 1


def test_statistics_are_those_of_the_training_rows(path: str) -> None:
    data = set_up(path)
    raw_ng = read(path).X
    x_ng = raw_ng[data.rows("train")].astype(np.float64)
    np.testing.assert_allclose(data.scaler.center_g.numpy(), x_ng.mean(0), atol=1e-5)
    assert data.expression("train").mean(0).abs().max() < 1e-4
    torch.testing.assert_close(
        data.expression("test"), data.scaler(torch.from_numpy(raw_ng[data.rows("test")]))
    )


def test_rows_read_in_blocks_are_those_of_the_split(path: str) -> None:
    data = set_up(path)
    lazy, whole = data.lazily("train"), data.expression("train").numpy()
    assert (len(lazy), lazy.shape) == (len(whole), whole.shape)
    np.testing.assert_array_equal(lazy[5:40], whole[5:40])
    np.testing.assert_array_equal(lazy[:], whole)


def test_a_matrix_is_let_go_once_batches_hold_coordinates_and_reads_the_same_again(path: str) -> None:
    data = set_up(path)
    before = {split: data.expression(split) for split in SPLITS}
    data.rotate(torch.eye(80)[:8])
    assert data.matrix.x_ng is None
    assert data.adata.X is None
    data.setup()  # as a trainer does
    assert data.matrix.x_ng is None
    for split in SPLITS:
        assert torch.equal(data.expression(split), before[split])
        np.testing.assert_array_equal(data.lazily(split)[:], before[split].numpy())
    batch = next(iter(data.val_dataloader()))
    assert torch.equal(batch.x_nf, before["val"][:16, :8])


def test_a_compressed_matrix_stays_in_memory(path: str, tmp_path: Path) -> None:
    read(path).write_h5ad(tmp_path / "x.h5ad", compression="gzip")
    data = set_up(str(tmp_path / "x.h5ad"))
    data.rotate(torch.eye(80)[:8])
    assert data.matrix.x_ng is not None
    assert torch.equal(data.expression("val"), set_up(path).expression("val"))


def test_samples_that_are_all_alike_are_refused(path: str, tmp_path: Path) -> None:
    adata = read(path)
    adata.X[:] = adata.X[0]
    adata.write_h5ad(tmp_path / "alike.h5ad")
    with pytest.raises(DataError, match=r"alike\.h5ad: no gene varies over the \d+ training samples"):
        set_up(str(tmp_path / "alike.h5ad"))


def test_loaders_serve_their_own_rows(path: str) -> None:
    data = set_up(path)
    served = {int(row) for batch in data.train_dataloader() for row in batch.row_n}
    assert served <= set(data.rows("train").tolist())
    validated = [int(row) for batch in data.val_dataloader() for row in batch.row_n]
    assert validated == data.rows("val").tolist()
    batch = next(iter(data.val_dataloader()))
    assert torch.equal(batch.x_nf, data.expression("val")[:16])


def test_training_seeds_share_a_split_and_not_the_order(path: str) -> None:
    first, second = set_up(path, seed=1), set_up(path, seed=2)
    assert (first.adata.obs["split"] == second.adata.obs["split"]).all()
    orders = [next(iter(data.train_dataloader())).row_n.tolist() for data in (first, second)]
    assert orders[0] != orders[1]
    assert (set_up(path, split_seed=1).adata.obs["split"] != first.adata.obs["split"]).any()


def test_splits_written_by_one_run_are_those_of_the_next(path: str, tmp_path: Path) -> None:
    first = set_up(path, split_seed=7)
    first.write_splits(tmp_path / "splits.csv")
    second = set_up(path, splits=str(tmp_path / "splits.csv"))
    assert (first.adata.obs["split"] == second.adata.obs["split"]).all()
    assert list(pd.read_csv(tmp_path / "splits.csv")) == ["sample", "donor", "split"]


def test_a_users_leaking_split_is_refused_unless_by_sample(path: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"sample": read(path).obs_names, "split": (["train"] * 3 + ["val", "test"]) * 60})
    table.to_csv(tmp_path / "splits.csv", index=False)
    with pytest.raises(SplitError, match=r"is in more than one split"):
        set_up(path, splits=str(tmp_path / "splits.csv"))
    data = set_up(path, splits=str(tmp_path / "splits.csv"), split_by="sample")
    assert len(data.rows("train")) == 180


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 1}, "data.batch_size=1"),
        ({"val": 0.0}, "data.val=0.0"),
        ({"val": 0.5, "test": 0.5}, "data.val=0.5 and data.test=0.5"),
        ({"clip": -1.0}, "data.clip=-1.0"),
        ({"min_scale": -1.0}, "data.min_scale=-1.0"),
    ],
)
def test_impossible_values_are_refused_before_any_data_is_read(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(GtexVaeError, match=message):
        ExpressionDataModule("x", "/does/not/exist.h5ad", **arguments)


def test_a_batch_larger_than_the_training_set_is_refused(path: str) -> None:
    data = ExpressionDataModule("x", path, batch_size=299)
    data.setup()
    with pytest.raises(
        ConfigError, match=r"data.batch_size=299 x 1 process\(es\) is more than the \d+ training samples"
    ):
        data.train_dataloader()


def test_constant_genes_are_reported(path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    adata = read(path)
    adata.X[:, 5] = 2.0
    adata.write_h5ad(tmp_path / "x.h5ad")
    data = set_up(str(tmp_path / "x.h5ad"))
    assert f"1 genes do not vary over the training samples ({adata.var_names[5]}" in caplog.text
    assert not data.expression("test")[:, 5].any()
