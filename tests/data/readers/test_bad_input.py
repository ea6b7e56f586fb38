"""Every fault of a file ends in one line that names the file; nothing is guessed."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gtex_vae.data.readers import read_matrix
from gtex_vae.errors import ConfigError, DataError

GCT = (
    "#1.2\n3\t2\nName\tDescription\tGTEX-A\tGTEX-B\n"
    "ENSG00000000003.14\tTSPAN6\t1.5\t20\nENSG00000000005.5\tTNMD\t0\t3\nENSG00000000419.12\tDPM1\t7\t8.25\n"
)
GCT3 = (
    "#1.3\n2\t2\t1\t1\nid\tgene_symbol\tGTEX-A\tGTEX-B\ntissue\tna\tBlood\tLiver\n"
    "ENSG00000000003\tTSPAN6\t1\t2\nENSG00000000005\tTNMD\t3\t4\n"
)
TSV = "gene_id\ts1\ts2\nENSG00000000003\t12\t0\nENSG00000000005\t3\t41\n"
CSV = TSV.replace("\t", ",")


def lines(text: str, at: int, new: str) -> str:
    """Replace one 1-based line."""
    all_lines = text.split("\n")
    all_lines[at - 1] = new
    return "\n".join(all_lines)


# name of the case: content, and a pattern of the message
TEXT: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", r"empty \(0 bytes\)"),
    "blank": (" \n\n \n", "only white space"),
    "binary junk": (bytes(range(256)) * 8, "binary content"),
    "control bytes": (b"\x01\x02\x03\x04" * 500, "binary content"),
    "nul in text": (TSV.encode() + b"\0\0\0", "binary content"),
    "utf-16 with mark": (TSV.encode("utf-16"), "UTF-16"),
    "utf-16 without mark": (TSV.encode("utf-16-le"), "UTF-16"),
    "utf-32": (TSV.encode("utf-32"), "UTF-16 or UTF-32"),
    "latin-1 header": (TSV.replace("s2", "Kröger").encode("latin-1"), "line 1: byte 14 is not UTF-8"),
    "latin-1 gene name": (GCT.replace("TNMD", "caf\xe9").encode("latin-1"), "line 5: byte 4 is not UTF-8"),
    "old Mac line ends": (TSV.replace("\n", "\r"), "lone CR"),
    "zip": (b"PK\x03\x04" + b"\0" * 50, "Excel workbook or a zip"),
    "old Excel": (b"\xd0\xcf\x11\xe0" + b"\0" * 50, "Excel"),
    "bzip2": (b"BZh91AY&SY" + b"\0" * 50, "bzip2"),
    "xz": (b"\xfd7zXZ\0" + b"\0" * 50, "xz"),
    "numpy": (b"\x93NUMPY\x01\0", "NumPy"),
    "web page": ("<!DOCTYPE html><html><body>404</body></html>\n", "web page"),
    "xml error": ("<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>\n", "XML"),
    "json": ('{"error": "not found"}\n', "JSON"),
    "lfs pointer": ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "series matrix": ('!Series_title\t"x"\n', "GEO series matrix"),
    "matrix market": ("%%MatrixMarket matrix coordinate integer general\n", "MatrixMarket"),
    "truncated h5ad": (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "h5ad store is damaged"),
    "truncated parquet": (b"PAR1" + b"\0" * 100, "parquet file is damaged"),
    "gct version": (lines(GCT, 1, "#1.1"), "version '#1.1' is unknown"),
    "gct ends after version": ("#1.2\n", "ends before line 2"),
    "gct ends after dimensions": ("#1.2\n3\t2\n", "ends before line 3"),
    "gct without rows": (
        "\n".join(GCT.split("\n")[:3]) + "\n",
        r"declares 3 genes x 2 samples, but the file has 0 x 2",
    ),
    "gct dimensions are text": (lines(GCT, 2, "three\t2"), "line 2: expected 2 whole numbers"),
    "gct dimensions missing": (
        lines(GCT, 2, "Name\tDescription\tGTEX-A\tGTEX-B"),
        "line 2: expected 2 whole",
    ),
    "gct negative dimensions": (lines(GCT, 2, "-3\t2"), "line 2: expected 2 whole"),
    "gct too few rows": (
        lines(GCT, 2, "56200\t2"),
        r"declares 56,200 genes x 2 samples, but the file has 3 x 2",
    ),
    "gct too many rows": (lines(GCT, 2, "2\t2"), "declares 2 genes x 2 samples, but the file has 3 x 2"),
    "gct wrong columns": (
        lines(GCT, 2, "3\t9"),
        "declares 3 genes x 9 samples, but the file names 2 samples in its header line",
    ),
    "gct with commas": (GCT.replace("\t", ",").replace("3,2", "3 2"), "header has no tabs"),
    "gct with spaces": (GCT.replace("\t", " "), "header has no tabs"),
    "gct no samples": ("#1.2\n1\t0\nName\tDescription\nENSG00000000003\tA\n", "no sample columns"),
    "gct swapped": (
        "#1.2\n1\t2\nName\tDescription\tENSG00000000003\tENSG00000000005\nGTEX-A\tx\t1\t2\n",
        "columns are Ensembl genes",
    ),
    "gct short row": (lines(GCT, 5, "ENSG00000000005.5\tTNMD\t0"), "line 5: 3 fields where the header has 4"),
    "gct row without values": (lines(GCT, 5, "ENSG00000000005.5"), "line 5: 1 fields where the header has 4"),
    "gct long row": (
        lines(GCT, 5, "ENSG00000000005.5\tTNMD\t0\t1\t2"),
        "line 5: 5 fields where the header has 4",
    ),
    "gct text in numbers": (
        lines(GCT, 5, "ENSG00000000005.5\tTNMD\t0\tabc"),
        r"line 5, column 4 \(sample 'GTEX-B'\): 'abc' is not a number",
    ),
    "gct hexadecimal": (lines(GCT, 5, "ENSG00000000005.5\tTNMD\t0\t0x1F"), "'0x1F' is not a number"),
    "gct underscores": (lines(GCT, 5, "ENSG00000000005.5\tTNMD\t0\t1_000"), "'1_000' is not a number"),
    "gct two points": (lines(GCT, 5, "ENSG00000000005.5\tTNMD\t0\t1.2.3"), "'1.2.3' is not a number"),
    "gct thousands": (
        lines(GCT, 5, "ENSG00000000005.5\tTNMD\t0\t1,234.5"),
        "'1,234.5' has a thousands separator; write 1234.5",
    ),
    "gct NaN": (
        lines(GCT, 4, "ENSG00000000003\tTSPAN6\tNaN\t1"),
        r"line 4, column 3 .*'NaN' is a missing value",
    ),
    "gct NA": (
        lines(GCT, 4, "ENSG00000000003\tTSPAN6\tNA\t1"),
        r"line 4, column 3 .*'NA' is a missing value",
    ),
    "gct empty value": (
        lines(GCT, 4, "ENSG00000000003\tTSPAN6\t\t1"),
        r"line 4, column 3 .*'' is a missing value",
    ),
    "gct Inf": (lines(GCT, 4, "ENSG00000000003\tTSPAN6\t1\t-Inf"), r"line 4, column 4 .*'-Inf' is infinite"),
    "gct overflow": (
        lines(GCT, 4, "ENSG00000000003\tTSPAN6\t1\t1e39"),
        "'1e39' does not fit single precision",
    ),
    "gct negative": (lines(GCT, 6, "ENSG00000000419\tDPM1\t7\t-8.25"), r"negative value at line 6, column 4"),
    "gct decimal commas": (GCT.replace("8.25", "8,25"), "'8,25' has a decimal comma"),
    "gct duplicate samples": (
        GCT.replace("GTEX-B", "GTEX-A"),
        "'GTEX-A' occurs twice, as sample column 1 and 2",
    ),
    "gct empty sample": (GCT.replace("GTEX-B", ""), "sample column 2 has an empty name"),
    "gct empty gene": (lines(GCT, 5, "\tTNMD\t0\t3"), "line 5, column 1: the gene id is empty"),
    "gct blank line inside": (GCT.replace("TSPAN6\t1.5\t20\n", "TSPAN6\t1.5\t20\n\n"), "line 5: blank"),
    "gct second header": (
        GCT.replace("GTEX-B\n", "GTEX-B\nName\tDescription\tGTEX-A\tGTEX-B\n"),
        r"line 4, column 3 \(sample 'GTEX-A'\): 'GTEX-A' is not a number",
    ),
    "gct 1.3 dimensions": (lines(GCT3, 2, "2\t2"), "line 2: expected 4 whole numbers"),
    "gct 1.3 short metadata": (lines(GCT3, 4, "tissue\tna\tBlood"), "line 4: 3 fields of sample metadata"),
    "gct 1.3 more metadata than lines": (lines(GCT3, 2, "2\t2\t1\t9"), "ends before line 7"),
    "header only": ("gene_id\ts1\ts2\n", "header but no rows"),
    "blank first line": ("\n" + TSV, "line 1: the header line is blank"),
    "no header": (
        TSV.split("\n", 1)[1].replace("12\t0", "12\t12"),
        "has numbers where the column names should be",
    ),
    "one column": ("gene_id\nENSG00000000003\nENSG00000000005\n", "no delimiter"),
    "header tabs, rows commas": (
        lines(lines(TSV, 2, "ENSG00000000003,12,0"), 3, "ENSG00000000005,3,41"),
        "no delimiter",
    ),
    "unknown delimiter": (TSV.replace("\t", "^"), "no delimiter"),
    "no numbers": ("sample\ttissue\nGTEX-A\tBlood\nGTEX-B\tLiver\n", "no numeric columns"),
    "two header lines": (
        TSV.replace("\nENSG00000000003", "\nunit\tTPM\tTPM\nENSG00000000003"),
        "line 2: text in every column",
    ),
    "ragged tsv": (TSV + "ENSG00000000419\t7\n", "line 4: 2 fields where the header has 3"),
    "line without values": (TSV + "ENSG00000000419\n", "line 4: 1 fields where the header has 3"),
    "cut in the last line": (TSV[:-4], "line 3: 2 fields where the header has 3"),
    "text in csv": (CSV.replace("41", "many"), r"line 3, column 3 \(sample 's2'\): 'many' is not a number"),
    "decimal commas in csv": (
        "gene_id,s1,s2\nENSG00000000003,1,5,2,5\nENSG00000000005,3,1,4,1\n",
        "decimal commas",
    ),
    "decimal commas, semicolons": (
        "gene_id;s1;s2\nENSG00000000003;1,5;2\nENSG00000000005;3,1;4,1\n",
        r"line 2, column 2 \(sample 's1'\): '1,5' has a decimal comma",
    ),
    "NaN in csv": (CSV.replace("41", "nan"), "line 3, column 3 .*missing value"),
    "negative counts": (CSV.replace("41", "-41"), "negative value at line 3, column 3"),
    "duplicate samples": (TSV.replace("s2", "s1"), "'s1' occurs twice"),
    "duplicate samples in rows": (
        "sample\tENSG00000000003\tENSG00000000005\ns1\t1\t2\ns2\t3\t4\ns1\t5\t6\n",
        "'s1' occurs twice, as sample row 1 and 3",
    ),
    "empty gene id in header": (
        "sample\tENSG00000000003\t\ns1\t1\t2\ns2\t3\t4\n",
        "line 1, column 3: the gene id is empty",
    ),
    "broken quotes": ('gene_id,s1,"s2\nENSG00000000003,1,2\nENSG00000000005,3,4\n', "line 1: broken quotes"),
    "both axes genes": (
        "gene\tENSG00000000003\tENSG00000000005\nENSG00000000003\t1\t.5\nENSG00000000005\t.5\t1\n",
        "both axes have Ensembl ids",
    ),
    "no telling ids": ("x\ta\tb\nc\t1\t2\nd\t3\t4\n", "do not show which axis holds the genes"),
    "z-scores": ("gene_id\ts1\ts2\nENSG00000000003\t-1.2\t0.3\nENSG00000000005\t0.7\t1.1\n", "standardized"),
    "all zero": (TSV.replace("12", "0").replace("41", "0").replace("\t3", "\t0"), "every value is zero"),
    "ambiguous unit": (
        "gene_id\ts1\ts2\nENSG00000000003\t1.2\t0.3\nENSG00000000005\t0.7\t1.1\n",
        "unit cannot be recognised",
    ),
    "intensities": (
        TSV.replace("12", "2000000.5").replace("41", "3000000.5").replace("\t0\n", "\t1\n"),
        "state unit=counts if these are estimated or normalised counts",
    ),
}


@pytest.mark.parametrize("case", TEXT)
def test_bad_text_is_a_named_error(case: str, tmp_path: Path) -> None:
    content, message = TEXT[case]
    path = tmp_path / "matrix.gct"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as caught:
        read_matrix(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text
    assert os.listdir(tmp_path) == ["matrix.gct"]


def gzipped() -> bytes:
    """Compress values that are random enough for half of the stream to contain whole lines."""
    rng = np.random.default_rng(0)
    rows = "".join(
        f"ENSG{at:011d}\tX\t{a:.6g}\t{b:.6g}\n" for at, (a, b) in enumerate(rng.random((5000, 2)) * 100)
    )
    return gzip.compress(f"#1.2\n5000\t2\nName\tDescription\ts1\ts2\n{rows}".encode())


def flip(data: bytes, at: int) -> bytes:
    """Damage one byte."""
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


COMPRESSED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "half a gzip": (lambda data: data[: len(data) // 2], "ends too early"),
    "gzip without its trailer": (lambda data: data[:-8], "ends too early"),
    "gzip header only": (lambda data: data[:10], "ends too early"),
    "two bytes of gzip": (lambda data: data[:2], "ends too early|damaged"),
    "damaged gzip": (lambda data: flip(data, len(data) // 2), "damaged|is not|fields|ends too early"),
    "wrong checksum": (lambda data: flip(data, len(data) - 6), "damaged"),
    "junk after gzip": (lambda data: data + b"junk junk junk", "damaged"),
    "gzip of nothing": (lambda data: gzip.compress(b""), "decompresses to nothing"),
    "gzip of gzip": (lambda data: gzip.compress(data), "binary content|twice"),
    "gzip of hdf5": (lambda data: gzip.compress(b"\x89HDF\r\n\x1a\n" + bytes(99)), "decompress it first"),
    "gzip of an R file": (lambda data: gzip.compress(b"RDX3\nX\n" + bytes(99)), "R data file"),
}


@pytest.mark.parametrize("case", COMPRESSED)
def test_bad_gzip_is_a_named_error(case: str, tmp_path: Path) -> None:
    damage, message = COMPRESSED[case]
    path = tmp_path / "matrix.gct.gz"
    path.write_bytes(damage(gzipped()))
    with pytest.raises(DataError, match=message) as caught:
        read_matrix(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_truncated_zstd_is_a_named_error(keep: float, tmp_path: Path) -> None:
    import pyarrow as pa

    data = pa.Codec("zstd").compress(gzip.decompress(gzipped()), asbytes=True)
    path = tmp_path / "matrix.gct.zst"
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(DataError, match=r"zstd stream|declares 5,000|fields"):
        read_matrix(path)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_matrix(tmp_path / "missing.gct")
    with pytest.raises(DataError, match="no zarr store"):
        read_matrix(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not a regular file"):
        read_matrix(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "matrix.tsv"
    path.write_text(TSV)
    path.chmod(0)
    with pytest.raises(DataError, match="check the permissions"):
        read_matrix(path)


def test_unreadable_file_whoever_runs_this(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "matrix.tsv"
    path.write_text(TSV)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("gtex_vae.data.readers.sniff.open", refuse, raising=False)
    with pytest.raises(DataError, match=r"Permission denied.*check the permissions"):
        read_matrix(path)


def test_disk_error_while_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "matrix.tsv"
    path.write_text(TSV)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("gtex_vae.data.readers.text.stream.open", refuse, raising=False)
    with pytest.raises(DataError, match=r"Input/output error.*check the disk"):
        read_matrix(path)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"unit": "furlongs"}, ConfigError, "unit='furlongs' is unknown; use one of counts"),
        ({"orientation": "sideways"}, ConfigError, "orientation='sideways' is unknown"),
        ({"orientation": "samples_in_rows"}, DataError, "rows are Ensembl genes"),
        ({"layer": "counts"}, ConfigError, "layer='counts' applies to"),
        ({"keep_gene": lambda gene, name: False}, DataError, "no gene is left"),
    ],
)
def test_bad_arguments(arguments: dict, error: type[Exception], message: str, tmp_path: Path) -> None:
    path = tmp_path / "matrix.tsv"
    path.write_text(TSV)
    with pytest.raises(error, match=message):
        read_matrix(path, **arguments)


@pytest.mark.parametrize("text", [GCT.replace("DPM1", "x\t"), TSV + "x\ty\tz\n", "x\ta\tb\nc\t1\t2\n"])
def test_no_thread_is_left_after_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "matrix"
    path.write_text(text + "more\t1\t2\n" * 400_000)
    with pytest.raises(DataError):
        read_matrix(path)
    assert not [thread for thread in threading.enumerate() if thread.name == "decompress"]


def test_stated_unit_does_not_excuse_negative_values(tmp_path: Path) -> None:
    path = tmp_path / "matrix.tsv"
    path.write_text(TSV.replace("41", "-41"))
    with pytest.raises(DataError, match="unit=tpm cannot be negative, but line 3, column 3"):
        read_matrix(path, unit="tpm")


def test_gct_orientation_is_fixed(tmp_path: Path) -> None:
    path = tmp_path / "matrix.gct"
    path.write_text(GCT)
    with pytest.raises(ConfigError, match="GCT always has genes in rows"):
        read_matrix(path, orientation="samples_in_rows")


def test_memory_that_does_not_suffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "matrix.gct"
    path.write_text(GCT)

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("gtex_vae.data.readers.text.rows.GenesInRows.result", fail)
    with pytest.raises(DataError, match="does not fit into memory"):
        read_matrix(path)
