"""A matrix prepared a block of samples at a time equals the one prepared in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from gtex_vae.data.genes.table import bundled_genes
from gtex_vae.data.preprocess import in_chunks as prepare_in_chunks
from gtex_vae.data.preprocess import processed
from gtex_vae.data.preprocess.processed import make_processed, read
from gtex_vae.data.readers import read_matrix
from gtex_vae.data.readers.text import spill
from gtex_vae.data.rows import LazyRows, rows_of, stack, take_columns, take_rows
from gtex_vae.errors import DataError
from gtex_vae.paths import shared_dir

N = 150
TARGET = "gtex_vae.data.preprocess.prepare.prepare_matrix"
CODING = bundled_genes().of_biotype().frame.index[:60]
# two copies of a gene, one gene of another biotype, one of the Y chromosome, one that nobody knows
LABELS = [
    *(f"{gene}.3" for gene in CODING),
    f"{CODING[4]}.9",
    "ENSG00000223972.5",
    "ENSG00000182378.13_PAR_Y",
    "ABC",
]


def values(unit: str) -> np.ndarray:
    """Samples x columns in some unit."""
    rng = np.random.default_rng(0)
    x_nc = rng.gamma(0.5, 8.0, (N, len(LABELS))) * (rng.random((N, len(LABELS))) < 0.8)
    x_nc[:, 5] *= rng.random(N) < 0.05
    if unit == "counts":
        return np.rint(100 * x_nc + (np.arange(len(LABELS)) == 0)).astype(np.float32)
    if unit == "log2(tpm+0.001)":
        return np.log2(x_nc + 0.001).astype(np.float32)
    return x_nc.astype(np.float32)


SAMPLES = [f"GTEX-{1000 + at // 5}-{at:04d}-SM-1" for at in range(N)]


def write(path: Path, kind: str, unit: str) -> Path:
    """The matrix in some format."""
    x_nc = values(unit)
    frame = pd.DataFrame(x_nc, index=SAMPLES, columns=LABELS)
    if kind == "gct":
        path = path / "raw.gct.gz"
        table = frame.T.rename_axis("Name").reset_index()
        table.insert(1, "Description", "")
        import gzip

        with gzip.open(path, "wt") as file:
            file.write(f"#1.2\n{len(LABELS)}\t{N}\n{table.to_csv(sep=chr(9), index=False)}")
    elif kind in ("genes.tsv", "samples.csv"):
        path = path / f"raw.{kind}"
        (frame.T if kind == "genes.tsv" else frame).to_csv(path, sep="\t" if kind == "genes.tsv" else ",")
    elif kind == "parquet":
        path = path / "raw.parquet"
        frame.to_parquet(path)
    else:
        path = path / ("raw.zarr" if kind == "zarr" else "raw.h5ad")
        x: Any = sp.csr_matrix(x_nc) if kind == "csr" else x_nc
        adata = ad.AnnData(
            x, obs=pd.DataFrame({"tissue": ["lung", "liver", "skin"] * (N // 3)}, index=SAMPLES)
        )
        adata.var_names = LABELS
        (adata.write_zarr if kind == "zarr" else adata.write_h5ad)(path)
    return path


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks, panels and tiles, none of them even."""
    monkeypatch.setattr(prepare_in_chunks, "BLOCK_VALUES", 37 * len(LABELS))
    monkeypatch.setattr(processed, "CHUNK_VALUES", 41 * 50)
    monkeypatch.setattr(spill, "PANEL_VALUES", 33 * N)
    monkeypatch.setattr(spill, "BUFFERED_ROWS", 7)


FILTERS: dict[str, Any] = {
    "min_prevalence": 0.1,
    "min_expression": 0.5,
    "top_genes": 40,
    "blacklist": [SAMPLES[3], SAMPLES[99]],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "unit"),
    [
        ("gct", "tpm"), ("genes.tsv", "log2(tpm+0.001)"), ("samples.csv", "counts"), ("parquet", "tpm"),
        ("dense", "tpm"), ("csr", "counts"), ("zarr", "log2(tpm+0.001)"),
    ],
)  # fmt: skip
def test_the_result_is_that_of_memory(tmp_path: Path, kind: str, unit: str) -> None:
    raw = write(tmp_path, kind, unit)
    made = {}
    for in_chunks in (False, True):
        prepare = {
            "_target_": TARGET,
            "path": str(raw),
            "unit": unit,
            "qc": str(tmp_path / f"qc{in_chunks}") if kind in ("gct", "csr") else None,
            **FILTERS,
        }
        path = tmp_path / str(in_chunks) / "x.h5ad"
        assert make_processed(path, prepare, in_chunks=in_chunks)
        assert not make_processed(path, prepare, in_chunks=not in_chunks)  # it is the same file
        made[in_chunks] = read(path)
        assert {entry.name for entry in path.parent.iterdir()} == {"x.h5ad", "x_genes", ".x.h5ad.lock"}
    memory, chunks = made[False], made[True]
    assert 10 < memory.n_vars < 60 and 10 < memory.n_obs < N
    np.testing.assert_array_equal(chunks.X, memory.X)
    # what gives counts back is kept in memory alone: the likelihood of counts takes no matrix on disk
    pd.testing.assert_frame_equal(chunks.obs, memory.obs.drop(columns="size_factor", errors="ignore"))
    pd.testing.assert_frame_equal(chunks.var, memory.var.drop(columns="count_length", errors="ignore"))
    assert chunks.uns["expression"] == memory.uns["expression"]
    records = [json.loads(adata.uns["provenance"]["record"]) for adata in (memory, chunks)]
    for key in ("sources", "dropped", "genes", "annotations", "unit", "gene_table"):
        assert records[0][key] == records[1][key], key
    for name in ("qc_samples.csv", "qc_near_duplicates.csv") if kind in ("gct", "csr") else ():
        assert (tmp_path / "qcTrue" / name).read_text() == (tmp_path / "qcFalse" / name).read_text()


def test_files_of_several_tissues_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pd.DataFrame(values("tpm"), index=SAMPLES, columns=LABELS)
    parts = []
    for at, rows in enumerate((slice(0, 70), slice(70, N))):
        parts.append(str(tmp_path / f"part{at}.csv"))
        whole[rows].to_csv(parts[-1])
    monkeypatch.setattr("gtex_vae.data.preprocess.prepare._download", lambda *_: (parts, []))
    prepare = {"_target_": TARGET, "release": "gtex_v8", "unit": "tpm"}
    for in_chunks in (False, True):
        make_processed(tmp_path / f"{in_chunks}.h5ad", prepare, in_chunks=in_chunks)
    memory, chunks = (read(tmp_path / f"{in_chunks}.h5ad") for in_chunks in (False, True))
    assert memory.n_obs == N
    np.testing.assert_array_equal(chunks.X, memory.X)
    assert list(chunks.obs_names) == list(memory.obs_names)


def bad_value(frame: pd.DataFrame) -> None:
    frame.iloc[80, 3] = np.nan


def negative(frame: pd.DataFrame) -> None:
    frame.iloc[140, 3] = -1.0


@pytest.mark.parametrize(
    ("spoil", "message"), [(bad_value, "missing value"), (negative, "cannot be negative")]
)
def test_what_memory_refuses_is_refused_with_nothing_left_behind(
    tmp_path: Path, spoil: Any, message: str
) -> None:
    frame = pd.DataFrame(values("tpm"), index=SAMPLES, columns=LABELS)
    spoil(frame)
    ad.AnnData(frame).write_h5ad(tmp_path / "raw.h5ad")
    prepare = {"_target_": TARGET, "path": str(tmp_path / "raw.h5ad"), "unit": "tpm"}
    for in_chunks in (False, True):
        with pytest.raises(DataError, match=message) as error:
            make_processed(tmp_path / "made" / "x.h5ad", prepare, in_chunks=in_chunks)
        assert SAMPLES[80 if spoil is bad_value else 140] in str(error.value)
    assert {entry.name for entry in (tmp_path / "made").iterdir()} == {".x.h5ad.lock"}


def test_simulated_data_is_made_in_memory_whatever_is_asked(tmp_path: Path) -> None:
    demo = {
        "_target_": "gtex_vae.data.simulate.bulk.simulate_gtex",
        "n_samples": 30,
        "n_genes": 60,
        "n_donors": 6,
    }
    make_processed(tmp_path / "x.h5ad", demo, in_chunks=True)
    assert read(tmp_path / "x.h5ad").shape == (30, 60)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 30), g=st.integers(1, 80), panel=st.integers(1, 4000), data=st.data())
def test_spilled_values_come_back_by_any_rows(n: int, g: int, panel: int, data: st.DataObject) -> None:
    import tempfile

    x_ng = np.random.default_rng(g).standard_normal((n, g)).astype(np.float32)
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1))))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "PANEL_VALUES", panel)
        genes, samples = spill.genes_in_rows(n, Path(folder)), spill.samples_in_rows(g, Path(folder))
        for collected, lines in ((genes, x_ng.T), (samples, x_ng)):
            for line in lines:
                collected.next_row()[:] = line
                collected.commit()
            result = collected.result()
            assert result.shape == (n, g)
            np.testing.assert_array_equal(result[rows], x_ng[rows])
            np.testing.assert_array_equal(result[:], x_ng)


def test_lazy_rows_are_those_of_the_matrix() -> None:
    x_ng = np.arange(60.0).reshape(12, 5)
    lazy = LazyRows((12, 5), lambda rows: x_ng[rows])
    rows, columns = np.array([0, 3, 4, 11]), np.array([4, 1])
    for matrix in (x_ng, sp.csr_array(x_ng), lazy):
        dense = [
            part.toarray() if sp.issparse(part) else np.asarray(part)
            for part in (
                rows_of(matrix, rows),
                take_columns(matrix, columns)[rows],
                take_rows(matrix, rows)[1:3],
            )
        ]
        np.testing.assert_array_equal(dense[0], x_ng[rows])
        np.testing.assert_array_equal(dense[1], x_ng[rows][:, columns])
        np.testing.assert_array_equal(dense[2], x_ng[rows[1:3]])
    joined = stack([x_ng[:4], LazyRows((8, 5), lambda rows: x_ng[4:][rows])])
    np.testing.assert_array_equal(joined[rows], x_ng[rows])
    np.testing.assert_array_equal(joined[5:7], x_ng[5:7])


def test_the_real_v6_file_is_the_same_either_way(tmp_path: Path) -> None:
    raw = shared_dir() / "gtex_v6" / "gtex_v6_240.gct.gz"
    if not raw.exists():
        pytest.skip(f"no real data in {shared_dir()}")
    spilled = read_matrix(raw, scratch=tmp_path)
    whole = read_matrix(raw)
    assert spilled.unit == whole.unit
    np.testing.assert_array_equal(spilled.x_ng[:], whole.x_ng)
