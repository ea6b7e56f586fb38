"""Every format gives the right matrix, in either orientation."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from gtex_vae.data.readers import RawMatrix, read_matrix
from gtex_vae.errors import DataError
from gtex_vae.paths import shared_dir
from gtex_vae.provenance import sha256

N, G = 7, 150
RNG = np.random.default_rng(3)
X_NG = np.round(RNG.lognormal(2, 2, (N, G)) * (RNG.random((N, G)) < 0.7), 3).astype(np.float32)
SAMPLES = [f"GTEX-{at:04d}-0126-SM-5H12U" for at in range(N)]
GENES = [f"ENSG{at * 3 + 1:011d}.{at % 9}" for at in range(G)]
NAMES = [f"SYM{at}" for at in range(G)]
FRAME = pd.DataFrame(X_NG, index=SAMPLES, columns=GENES)


def gct12(path: Path, with_id: bool = False, end: str = "\n") -> None:
    rows = [
        f"{'0' + chr(9) if with_id else ''}{gene}\t{name}\t" for gene, name in zip(GENES, NAMES, strict=True)
    ]
    body = [row + "\t".join(map(str, x_n)) for row, x_n in zip(rows, X_NG.T, strict=True)]
    head = ["#1.2", f"{G}\t{N}", "\t".join([*["id"] * with_id, "Name", "Description", *SAMPLES])]
    path.write_bytes((end.join(head + body) + end).encode())


def check(matrix: RawMatrix, genes: list[str] = GENES) -> None:
    assert matrix.sample_ids == SAMPLES
    assert matrix.gene_ids == genes
    x_ng = matrix.x_ng if isinstance(matrix.x_ng, np.ndarray) else matrix.x_ng.toarray()
    assert x_ng.dtype == np.float32
    np.testing.assert_array_equal(x_ng, X_NG[:, [GENES.index(gene) for gene in genes]])
    assert matrix.unit == "tpm/rpkm"


def write_h5ad(path: Path, x: object = X_NG, **more: object) -> None:
    ad.AnnData(
        x, obs=pd.DataFrame(index=SAMPLES), var=pd.DataFrame({"gene_name": NAMES}, index=GENES), **more
    ).write_h5ad(path)


def write_zarr(path: Path, x: object = X_NG) -> None:
    ad.AnnData(
        x, obs=pd.DataFrame(index=SAMPLES), var=pd.DataFrame({"gene_name": NAMES}, index=GENES)
    ).write_zarr(path)


def zstd(path: Path, text: str) -> None:
    import pyarrow as pa

    with pa.CompressedOutputStream(pa.OSFile(str(path), "wb"), "zstd") as stream:
        stream.write(text.encode())


# R omits the corner; BED has four columns and a hash; all others are written by pandas
BED = "#Chr\tstart\tend\tphenotype_id\t" + FRAME.T.to_csv(sep="\t").split("\t", 1)[1]
BED = "\n".join(
    line if at == 0 else f"1\t{at}\t{at + 1}\t{line}" for at, line in enumerate(BED.rstrip("\n").split("\n"))
)
FEATURE_COUNTS = (
    "# Program:featureCounts v2.0.1\nGeneid\tChr\tStart\tEnd\tStrand\tLength\t"
    + "\n".join(
        line if at == 0 else line.replace("\t", f"\tchr1;chr1\t{at}\t{at + 9}\t+;+\t10\t", 1)
        for at, line in enumerate(FRAME.T.to_csv(sep="\t")[1:].rstrip("\n").split("\n"))
    )
    + "\n"
)
DESCRIBED = FRAME.T.assign(Description=[f'"{name}", alias' for name in NAMES])

FORMATS: dict[str, Callable[[Path], object]] = {
    "gct": gct12,
    "gct with id": lambda path: gct12(path, with_id=True),
    "gct crlf": lambda path: gct12(path, end="\r\n"),
    "gct gzip": lambda path: (gct12(path), path.write_bytes(gzip.compress(path.read_bytes()))),
    "gct gzip of many members": lambda path: (
        gct12(path),
        path.write_bytes(b"".join(gzip.compress(part) for part in path.read_bytes().partition(b"\t"))),
    ),
    "gct with mark": lambda path: (gct12(path), path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())),
    "gct without last line end": lambda path: (gct12(path), path.write_bytes(path.read_bytes()[:-1])),
    "gct with blank end": lambda path: (gct12(path), path.write_bytes(path.read_bytes() + b"\n\n")),
    "tsv genes in rows": lambda path: FRAME.T.to_csv(path, sep="\t", index_label="gene_id"),
    "tsv samples in rows": lambda path: FRAME.to_csv(path, sep="\t", index_label="sample"),
    "csv": lambda path: FRAME.to_csv(path),
    "csv genes in rows": lambda path: FRAME.T.to_csv(path),
    "csv double precision": lambda path: FRAME.astype(np.float64).to_csv(path),
    "csv all quoted": lambda path: FRAME.to_csv(path, quoting=1),
    "csv with mark and crlf": lambda path: FRAME.to_csv(path, encoding="utf-8-sig", lineterminator="\r\n"),
    "csv described": lambda path: DESCRIBED[["Description", *SAMPLES]].to_csv(path, index_label="gene_id"),
    "semicolons": lambda path: FRAME.to_csv(path, sep=";"),
    "bars": lambda path: FRAME.to_csv(path, sep="|"),
    "spaces, as R writes": lambda path: path.write_text(FRAME.to_csv(sep=" ").removeprefix(" ")),
    "tsv of R without corner": lambda path: path.write_text(FRAME.T.to_csv(sep="\t").removeprefix("\t")),
    "tsv gzip": lambda path: FRAME.T.to_csv(path, sep="\t", compression="gzip"),
    "tsv zstd": lambda path: zstd(path, FRAME.T.to_csv(sep="\t")),
    "bed": lambda path: path.write_text(BED),
    "featureCounts": lambda path: path.write_text(FEATURE_COUNTS),
    "parquet samples in rows": lambda path: FRAME.to_parquet(path),
    "parquet genes in rows": lambda path: FRAME.T.to_parquet(path),
    "parquet with id column": lambda path: FRAME.T.reset_index(names="gene_id").to_parquet(path, index=False),
    "h5ad": write_h5ad,
    "h5ad csr": lambda path: write_h5ad(path, sp.csr_matrix(X_NG)),
    "h5ad csc": lambda path: write_h5ad(path, sp.csc_matrix(X_NG)),
    "h5ad transposed": lambda path: ad.AnnData(
        X_NG.T.copy(), obs=pd.DataFrame(index=GENES), var=pd.DataFrame(index=SAMPLES)
    ).write_h5ad(path),
    "zarr": write_zarr,
    "zarr csr": lambda path: write_zarr(path, sp.csr_matrix(X_NG)),
}


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_matrix(name: str, filtered: bool, tmp_path: Path) -> None:
    path = tmp_path / "matrix"  # no suffix: the format is recognised from the content
    FORMATS[name](path)
    wanted = GENES[1::3]
    matrix = read_matrix(path, keep_gene=(lambda gene, _: gene in wanted) if filtered else None)
    check(matrix, wanted if filtered else GENES)
    assert matrix.source.found_shape == (G, N)
    assert matrix.source.sha256 == sha256(path)
    if "csr" in name or "csc" in name:
        assert isinstance(matrix.x_ng, sp.csr_matrix)
    else:
        assert matrix.x_ng.flags.c_contiguous


@pytest.mark.parametrize("name", ["gct", "gct with id"])
def test_gct_symbols_and_filter_by_symbol(name: str, tmp_path: Path) -> None:
    FORMATS[name](tmp_path / "x.gct")
    matrix = read_matrix(tmp_path / "x.gct", keep_gene=lambda _, symbol: symbol in ("SYM4", "SYM140"))
    assert matrix.gene_names == ["SYM4", "SYM140"]
    check(matrix, [GENES[4], GENES[140]])
    assert matrix.source.format == "gct 1.2"
    assert matrix.source.declared_shape == (G, N)


def test_gct_13_carries_its_metadata(tmp_path: Path) -> None:
    path = tmp_path / "x.gct"
    path.write_text(
        "#1.3\n2\t3\t2\t1\nid\tpr_gene_symbol\tbiotype\tA\tB\tC\ntissue\tna\tna\tBlood\tLiver\tBlood\n"
        "ENSG00000000003\tTSPAN6\tcoding\t1\t2\t30\nENSG00000000005\tTNMD\tcoding\t3\t4\t0\n"
    )
    matrix = read_matrix(path)
    assert matrix.x_ng.tolist() == [[1, 3], [2, 4], [30, 0]]
    assert matrix.gene_names == ["TSPAN6", "TNMD"]
    assert matrix.obs is not None and matrix.obs["tissue"].tolist() == ["Blood", "Liver", "Blood"]
    assert matrix.var is not None and matrix.var.loc["ENSG00000000005", "biotype"] == "coding"


def test_text_columns_become_tables(tmp_path: Path) -> None:
    (tmp_path / "genes").write_text(BED)
    matrix = read_matrix(tmp_path / "genes")
    assert matrix.var is not None and list(matrix.var) == ["Chr", "start", "end"]
    assert matrix.var.index.tolist() == GENES
    FRAME.reset_index(names="sample").assign(tissue="Blood")[["sample", "tissue", *GENES]].to_csv(
        tmp_path / "samples", index=False
    )
    matrix = read_matrix(tmp_path / "samples")
    check(matrix)
    assert matrix.obs is not None and matrix.obs["tissue"].tolist() == ["Blood"] * N


def test_duplicate_genes_are_left_for_the_gene_stage(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("gene\ts1\ts2\nENSG00000000003\t1\t2\nENSG00000000003\t30\t4\n")
    matrix = read_matrix(path)
    assert matrix.gene_ids == ["ENSG00000000003"] * 2
    assert matrix.x_ng.tolist() == [[1, 30], [2, 4]]


def test_symbols_tell_the_orientation(tmp_path: Path) -> None:
    symbols = ["A1BG", "A2M", "AAAS", "ACTB", "RPL13", "ZNF7", "TP53"]
    frame = pd.DataFrame(np.arange(14).reshape(2, 7) * 3, index=["x1", "x2"], columns=symbols)
    frame.to_csv(tmp_path / "samples.csv")
    frame.T.to_csv(tmp_path / "genes.csv")
    for name in ("samples", "genes"):
        matrix = read_matrix(tmp_path / f"{name}.csv")
        assert (matrix.gene_ids, matrix.sample_ids) == (symbols, ["x1", "x2"])


def test_untelling_ids_with_stated_orientation(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("x\ta\tb\nc\t1\t2\nd\t3\t40\n")
    assert read_matrix(path, orientation="genes_in_rows").x_ng.tolist() == [[1, 3], [2, 40]]
    assert read_matrix(path, orientation="samples_in_rows").x_ng.tolist() == [[1, 2], [3, 40]]


def test_gct_dimensions_can_be_excused(tmp_path: Path) -> None:
    gct12(tmp_path / "x.gct")
    text = (tmp_path / "x.gct").read_text()
    (tmp_path / "x.gct").write_text(text.replace(f"{G}\t{N}\n", "56200\t17382\n", 1))
    with pytest.raises(DataError, match="56,200"):
        read_matrix(tmp_path / "x.gct")
    matrix = read_matrix(tmp_path / "x.gct", allow_shape_mismatch=True)
    check(matrix)
    assert matrix.source.declared_shape == (56200, 17382)


def test_lines_longer_than_a_block_and_blocks_of_many_lines(tmp_path: Path) -> None:
    genes = [f"ENSG{at:011d}" for at in range(300_000)]
    x_ng = np.arange(600_000, dtype=np.float32).reshape(2, -1)
    path = tmp_path / "wide.tsv"
    rows = [f"s{at}\t" + "\t".join(map(str, x_g.astype(int).tolist())) for at, x_g in enumerate(x_ng)]
    path.write_text("\n".join(["sample\t" + "\t".join(genes), *rows]))
    assert path.stat().st_size > 2 * (4 << 20)
    np.testing.assert_array_equal(read_matrix(path).x_ng, x_ng)
    np.testing.assert_array_equal(
        read_matrix(path, keep_gene=lambda gene, _: gene.endswith("7")).x_ng, x_ng[:, 7::10]
    )


def test_more_genes_than_a_panel(tmp_path: Path) -> None:
    x_ng = RNG.integers(0, 99, (3, 2500)).astype(np.float32)
    frame = pd.DataFrame(
        x_ng.T.astype(int), index=[f"ENSG{at:011d}" for at in range(2500)], columns=["a", "b", "c"]
    )
    frame.to_csv(tmp_path / "x.tsv", sep="\t")
    np.testing.assert_array_equal(read_matrix(tmp_path / "x.tsv").x_ng, x_ng)


class TestAnnData:
    def test_layers_and_raw(self, tmp_path: Path) -> None:
        path = tmp_path / "x.h5ad"
        write_h5ad(path, np.zeros_like(X_NG), layers={"tpm": X_NG})
        check(read_matrix(path, layer="tpm"))
        with pytest.raises(DataError, match="has no layer 'counts'; it has X, tpm"):
            read_matrix(path, layer="counts")
        data = ad.read_h5ad(path)
        data.X = X_NG
        data.raw = data
        data[:, :20].copy().write_h5ad(path)
        check(read_matrix(path, layer="raw"))

    def test_ensembl_ids_beside_symbols(self, tmp_path: Path) -> None:
        path = tmp_path / "x.h5ad"
        ad.AnnData(
            X_NG, obs=pd.DataFrame(index=SAMPLES), var=pd.DataFrame({"gene_ids": GENES}, index=NAMES)
        ).write_h5ad(path)
        matrix = read_matrix(path)
        check(matrix)
        assert matrix.gene_names == NAMES

    def test_stated_unit_is_believed(self, tmp_path: Path) -> None:
        path = tmp_path / "x.h5ad"
        write_h5ad(path, np.log2(X_NG + 1), uns={"expression": {"unit": "log2(RPKM+1)"}})
        assert read_matrix(path).unit == "log2(rpkm+1)"

    @pytest.mark.parametrize("sparse", [False, True])
    @pytest.mark.parametrize(
        ("value", "message"), [(np.nan, "missing value"), (np.inf, "infinite"), (-3, "negative")]
    )
    def test_bad_values_name_sample_and_gene(
        self, value: float, message: str, sparse: bool, tmp_path: Path
    ) -> None:
        x_ng = X_NG.copy()
        x_ng[4, 77] = value
        write_h5ad(tmp_path / "x", sp.csr_matrix(x_ng) if sparse else x_ng)
        with pytest.raises(DataError, match=f"{message}.*{SAMPLES[4]}.*{GENES[77]}"):
            read_matrix(tmp_path / "x")

    def test_other_hdf5(self, tmp_path: Path) -> None:
        import h5py

        with h5py.File(tmp_path / "x.h5", "w") as file:
            file["matrix"] = np.zeros(3)
        with pytest.raises(DataError, match="not an AnnData, obs and var missing; a 10x file"):
            read_matrix(tmp_path / "x.h5")

    def test_truncated(self, tmp_path: Path) -> None:
        write_h5ad(tmp_path / "x.h5ad")
        (tmp_path / "x.h5ad").write_bytes((tmp_path / "x.h5ad").read_bytes()[:-2000])
        with pytest.raises(DataError, match="damaged"):
            read_matrix(tmp_path / "x.h5ad")

    def test_repeated_samples(self, tmp_path: Path) -> None:
        data = ad.AnnData(X_NG, obs=pd.DataFrame(index=[SAMPLES[0]] * N), var=pd.DataFrame(index=GENES))
        data.write_h5ad(tmp_path / "x.h5ad")
        with pytest.raises(DataError, match="occurs twice"):
            read_matrix(tmp_path / "x.h5ad")

    def test_zarr_with_a_missing_chunk_folder(self, tmp_path: Path) -> None:
        write_zarr(tmp_path / "x.zarr")
        (tmp_path / "x.zarr/obs").rename(tmp_path / "obs")
        with pytest.raises(DataError, match=r"obs missing|damaged|empty name"):
            read_matrix(tmp_path / "x.zarr")

    def test_pickled_zarr_is_never_opened(self, tmp_path: Path) -> None:
        (tmp_path / "x.zarr/obs").mkdir(parents=True)
        (tmp_path / "x.zarr/.zgroup").write_text('{"zarr_format": 2}')
        (tmp_path / "x.zarr/obs/.zarray").write_text('{"filters": [{"id": "pickle", "protocol": 5}]}')
        with pytest.raises(DataError, match="pickled"):
            read_matrix(tmp_path / "x.zarr")


class TestParquet:
    def test_missing_values(self, tmp_path: Path) -> None:
        frame = FRAME.copy()
        frame.iloc[2, 5] = np.nan
        frame.to_parquet(tmp_path / "x")
        with pytest.raises(DataError, match=f"missing value.*{SAMPLES[2]}.*{GENES[5]}"):
            read_matrix(tmp_path / "x")

    def test_without_ids(self, tmp_path: Path) -> None:
        FRAME.to_parquet(tmp_path / "x", index=False)
        with pytest.raises(DataError, match="no text column of ids"):
            read_matrix(tmp_path / "x")

    def test_symbols_beside_ids(self, tmp_path: Path) -> None:
        FRAME.T.assign(gene_name=NAMES).to_parquet(tmp_path / "x")
        matrix = read_matrix(tmp_path / "x")
        check(matrix)
        assert matrix.gene_names == NAMES

    def test_truncated(self, tmp_path: Path) -> None:
        FRAME.to_parquet(tmp_path / "x")
        (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:-100])
        with pytest.raises(DataError, match="parquet file is damaged"):
            read_matrix(tmp_path / "x")


def real(name: str) -> Path:
    """Return a real file, or skip the test."""
    found = sorted(shared_dir().glob(name))
    if not found:
        pytest.skip(f"{shared_dir() / name} is not here; set GTEX_VAE_SHARED")
    return found[0]


class TestReal:
    def test_v6_equals_pandas_and_the_published_h5ad(self) -> None:
        path = real("gtex_v6/gtex_v6_240.gct.gz")
        matrix = read_matrix(path)
        frame = pd.read_csv(path, sep="\t", skiprows=2, index_col=0, float_precision="round_trip")
        assert matrix.source.found_shape == (7039, 240)
        assert (
            matrix.gene_ids == frame.index.tolist() and matrix.gene_names == frame.pop("Description").tolist()
        )
        assert matrix.sample_ids == frame.columns.tolist()
        np.testing.assert_array_equal(matrix.x_ng, frame.to_numpy(np.float32).T)
        assert matrix.unit == "tpm/rpkm"

    def test_v8_declares_more_than_it_holds(self) -> None:
        path = real("gtex_v8/*.gct.gz")
        with pytest.raises(
            DataError, match=r"56,200 genes x 17,382 samples.*has 59 x 17,382.*allow_shape_mismatch"
        ):
            read_matrix(path)
        matrix = read_matrix(path, allow_shape_mismatch=True)
        frame = pd.read_csv(path, sep="\t", skiprows=2, index_col=[0, 1])
        np.testing.assert_array_equal(matrix.x_ng, frame.to_numpy(np.float32).T)
        assert matrix.unit == "counts"
        assert matrix.source.declared_shape == (56200, 17382)

    def test_onek1k_bed(self) -> None:
        matrix = read_matrix(real("onek1k/*.bed.gz"))
        assert matrix.x_ng.shape == (94, 27018)
        assert matrix.unit == "counts" and matrix.sample_ids[0] == "1000_1001"
        assert matrix.gene_ids[-1] == "ENSG00000160310" and matrix.x_ng[0, -1] == 14

    def test_onek1k_h5ad(self) -> None:
        matrix = read_matrix(real("onek1k/*.h5ad"))
        assert matrix.x_ng.shape == (7811, 1000) and matrix.unit == "counts"
        assert matrix.obs is not None and "cell_type" in matrix.obs
