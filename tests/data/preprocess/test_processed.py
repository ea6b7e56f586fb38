"""Processed AnnData: made once, made again when its settings change, refused if it is not one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from gtex_vae.data.preprocess import processed
from gtex_vae.data.preprocess.processed import check, choose, make_processed, read
from gtex_vae.errors import ConfigError, DataError

PREPARE: dict[str, Any] = {
    "_target_": "gtex_vae.data.simulate.bulk.simulate_gtex", "n_samples": 30, "n_genes": 60, "n_donors": 6, "seed": 1
}  # fmt: skip


def small(n: int = 5, g: int = 4) -> ad.AnnData:
    obs = pd.DataFrame(
        {"donor": list("aabbc")[:n], "tissue": ["lung"] * n}, index=[f"s{i}" for i in range(n)]
    )
    x_ng = np.random.default_rng(0).uniform(0, 9, (n, g)).astype(np.float32)
    return ad.AnnData(x_ng, obs=obs, var=pd.DataFrame(index=[f"ENSG{i}" for i in range(g)]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "processed" / "demo.h5ad"


def test_made_once(path: Path) -> None:
    assert make_processed(path, PREPARE)
    made = path.stat().st_mtime_ns
    assert not make_processed(path, dict(reversed(PREPARE.items())))
    assert path.stat().st_mtime_ns == made
    assert read(path).shape == (30, 60)
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, "demo_genes", f".{path.name}.lock"}


def test_made_again_when_settings_change_or_when_asked(path: Path) -> None:
    make_processed(path, PREPARE)
    assert make_processed(path, {**PREPARE, "n_genes": 70})
    assert read(path).n_vars == 70
    assert make_processed(path, {**PREPARE, "n_genes": 70}, overwrite=True)
    assert not make_processed(path, {**PREPARE, "n_genes": 70})


@pytest.mark.parametrize("changed", ["raw.tsv", "samples.csv", "genes.txt"])
def test_made_again_when_a_file_that_goes_into_it_changes(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    raw, samples, genes = (tmp_path / name for name in ("raw.tsv", "samples.csv", "genes.txt"))
    for file in (raw, samples, genes):
        file.write_text("first")
    monkeypatch.setattr(processed, "build", lambda node: small())
    prepare = {
        "_target_": "somewhere",
        "path": str(raw),
        "annotations": [str(samples)],
        "gene_list": str(genes),
    }
    assert make_processed(path, prepare)
    assert not make_processed(path, prepare)
    (tmp_path / changed).write_text("second, and longer")
    assert make_processed(path, prepare)
    assert not make_processed(path, prepare)


def foreign_adata(path: Path) -> None:
    small().write_h5ad(path)


def foreign_settings(path: Path) -> None:
    adata = small()
    adata.uns["provenance"] = {"settings": {"a": 1}}
    adata.write_h5ad(path)


def foreign_number(path: Path) -> None:
    adata = small()
    adata.uns["provenance"] = {"settings": 3}
    adata.write_h5ad(path)


def foreign_text(path: Path) -> None:
    adata = small()
    adata.uns["provenance"] = "by hand"
    adata.write_h5ad(path)


def cut_short(path: Path) -> None:
    small().write_h5ad(path)
    path.write_bytes(path.read_bytes()[:3000])


def not_hdf5(path: Path) -> None:
    path.write_text("no AnnData at all")


@pytest.mark.parametrize(
    "put", [foreign_adata, foreign_settings, foreign_number, foreign_text, cut_short, not_hdf5]
)
def test_a_file_that_these_settings_did_not_make_is_replaced(path: Path, put: Any) -> None:
    path.parent.mkdir()
    put(path)
    assert make_processed(path, PREPARE)
    assert not make_processed(path, PREPARE)
    assert read(path).n_obs == 30


def test_an_exception_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_processed(path, PREPARE)
    before = path.read_bytes()

    def full(self: ad.AnnData, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ad.AnnData, "write_h5ad", full)
    with pytest.raises(OSError, match=r"No space"):
        make_processed(path, {**PREPARE, "seed": 2})
    assert path.read_bytes() == before
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, "demo_genes", f".{path.name}.lock"}


def test_bad_data_never_becomes_a_processed_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adata = small()
    adata.X[2, 1] = np.nan
    monkeypatch.setattr(processed, "build", lambda node: adata)
    with pytest.raises(DataError, match=r"nan at sample s2, gene ENSG1"):
        make_processed(path, PREPARE)
    assert not path.exists()
    monkeypatch.undo()
    with pytest.raises(ConfigError):
        make_processed(path, {**PREPARE, "n_genes": 3})
    assert not path.exists()


def test_provenance_says_what_made_it_and_keeps_the_makers_own(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adata = small()
    adata.uns["provenance"] = {"dropped": {"no donor": 3}, "nothing": None, "none": []}
    monkeypatch.setattr(processed, "build", lambda node: adata)
    make_processed(path, PREPARE)
    written = read(path).uns["provenance"]
    assert len(written["settings"]) == 64
    record = json.loads(written["record"])
    assert record == {"dropped": {"no donor": 3}, "nothing": None, "none": [], "config": PREPARE}


def test_what_it_made_is_trained_on_as_it_is_and_nothing_else(path: Path, tmp_path: Path) -> None:
    make_processed(path, PREPARE)
    small().write_h5ad(tmp_path / "raw.h5ad")
    (tmp_path / "raw.tsv").write_text("gene")
    assert choose(str(path), "made.h5ad") == path
    for raw in (
        str(tmp_path / "raw.h5ad"),
        str(tmp_path / "raw.tsv"),
        str(tmp_path / "no.h5ad"),
        str(tmp_path),
        None,
    ):
        assert choose(raw, "made.h5ad") == Path("made.h5ad")


@pytest.mark.parametrize("kind", ["csr", "csc", "float64", "int", "zarr"])
def test_read_gives_dense_single_precision_whatever_was_written(tmp_path: Path, kind: str) -> None:
    adata = small()
    expected = adata.X.copy()
    file = tmp_path / f"x.{'zarr' if kind == 'zarr' else 'h5ad'}"
    if kind in ("csr", "csc"):
        adata.X = sp.csr_matrix(adata.X) if kind == "csr" else sp.csc_matrix(adata.X)
    elif kind == "float64":
        adata.X = adata.X.astype(np.float64)
    elif kind == "int":
        expected = np.round(expected)
        adata.X = expected.astype(np.int32)
    adata.write_zarr(file) if kind == "zarr" else adata.write_h5ad(file)
    x_ng = read(file).X
    assert isinstance(x_ng, np.ndarray)
    assert x_ng.dtype == np.float32
    assert x_ng.flags["C_CONTIGUOUS"] and x_ng.flags["WRITEABLE"]
    np.testing.assert_array_equal(x_ng, expected)


def test_read_errors_are_one_line_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing.h5ad does not exist"):
        read(tmp_path / "nothing.h5ad")
    for put in (cut_short, not_hdf5):
        file = tmp_path / f"{put.__name__}.h5ad"
        put(file)
        with pytest.raises(DataError, match=rf"{file.name} is not a readable AnnData: ") as error:
            read(file)
        assert "\n" not in str(error.value)
    (tmp_path / "x.zarr").mkdir()
    with pytest.raises(DataError, match=r"x.zarr is not a readable AnnData") as error:
        read(tmp_path / "x.zarr")
    assert "\n" not in str(error.value)


def test_an_anndata_without_a_matrix_is_refused(tmp_path: Path) -> None:
    adata = small()
    ad.AnnData(obs=adata.obs, var=adata.var).write_h5ad(tmp_path / "x.h5ad")
    with pytest.raises(DataError, match=r"x.h5ad has no matrix X"):
        read(tmp_path / "x.h5ad")


def without(column: str) -> ad.AnnData:
    adata = small()
    del adata.obs[column]
    return adata


def with_value(value: float) -> ad.AnnData:
    adata = small()
    adata.X[3, 2] = value
    return adata


def twice(axis: str) -> ad.AnnData:
    adata = small()
    setattr(
        adata, f"{axis}_names", [*getattr(adata, f"{axis}_names")[:-1], getattr(adata, f"{axis}_names")[0]]
    )
    return adata


@pytest.mark.filterwarnings("ignore:(Observation|Variable) names are not unique")
@pytest.mark.parametrize(
    ("adata", "message"),
    [
        (without("donor"), "obs has no column 'donor'"),
        (without("tissue"), "obs has no column 'tissue'"),
        (small()[:0], "is empty: 0 samples x 4 genes"),
        (small()[:, :0], "is empty: 5 samples x 0 genes"),
        (twice("obs"), "sample id s0 occurs twice"),
        (twice("var"), "gene id ENSG0 occurs twice"),
        (with_value(np.nan), "nan at sample s3, gene ENSG2"),
        (with_value(np.inf), "inf at sample s3, gene ENSG2"),
        (with_value(-np.inf), "-inf at sample s3, gene ENSG2"),
        (with_value(20_000.0), r"values up to 2e\+04 are not on a log2 scale"),
    ],
)
def test_what_is_no_processed_data_is_refused_in_one_line(adata: ad.AnnData, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        check(adata, "x.h5ad")
    assert str(error.value).startswith("x.h5ad")
    assert "\n" not in str(error.value)


def test_good_data_passes() -> None:
    check(small(), "x.h5ad")
    check(with_value(-9.97), "x.h5ad")  # log2(0 + 0.001)
