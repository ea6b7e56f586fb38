"""Mutated files end in the right matrix or in a named error, never in another exception or a wrong number."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gtex_vae.data.readers import read_matrix
from gtex_vae.errors import GtexVaeError

GENES = [f"ENSG{at:011d}" for at in range(6)]
X_GN = [
    ["0", "1.5", "20"],
    ["3", "0", "7.25"],
    ["1e2", "4", "0"],
    ["5", "6", "7"],
    ["0", "0", "9.5"],
    ["8", "1", "2"],
]
ROWS = [f"{gene}\tSYM{at}\t" + "\t".join(x_n) for at, (gene, x_n) in enumerate(zip(GENES, X_GN, strict=True))]
GCT = ("#1.2\n6\t3\nName\tDescription\tGTEX-A\tGTEX-B\tGTEX-C\n" + "\n".join(ROWS) + "\n").encode()
TSV = ("gene_id\tgene_name\tGTEX-A\tGTEX-B\tGTEX-C\n" + "\n".join(ROWS) + "\n").encode()
CSV = TSV.replace(b"\t", b",")

PIECES = st.sampled_from(
    [
        b"\t",
        b"\n",
        b",",
        b".",
        b"-",
        b"e",
        b"NA",
        b"nan",
        b"inf",
        b'"',
        b"\r",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b" ",
        b"#1.2",
        *[b"0", b"9" * 30, b"\n\n", b";", b"1e400", b"ENSG00000000001"],
    ]
)
MUTATION = st.tuples(
    st.sampled_from(["insert", "delete", "replace", "cut", "swap", "repeat"]), st.floats(0, 1), PIECES
)


def mutate(data: bytes, mutations: list[tuple[str, float, bytes]]) -> bytes:
    """Apply a few edits."""
    for kind, place, piece in mutations:
        at = int(place * len(data))
        if kind == "insert":
            data = data[:at] + piece + data[at:]
        elif kind == "delete":
            data = data[:at] + data[at + len(piece) :]
        elif kind == "replace":
            data = data[:at] + piece + data[at + len(piece) :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "swap":
            data = data[at:] + data[:at]
        else:
            data = data[:at] + data[at // 2 : at] + data[at:]
    return data


def plain(data: bytes, delimiter: str) -> list[list[str]]:
    """Read the fields of the file by an independent, slow method."""
    text = data.removeprefix(b"\xef\xbb\xbf").decode()
    lines = [line.removesuffix("\r") for line in text.split("\n") if line.strip("\r")]
    if lines[0].startswith("#1."):
        lines = lines[2:]
    return [line.split(delimiter) for line in lines]


def attempt(data: bytes, delimiter: str | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "matrix"
        path.write_bytes(data)
        try:
            matrix = read_matrix(path, unit="tpm")
        except GtexVaeError as error:
            message = str(error)
        else:
            message = ""
    if message:
        assert "\n" not in message and str(path) in message
        return
    x_ng = matrix.x_ng
    assert isinstance(x_ng, np.ndarray) and x_ng.dtype == np.float32
    assert x_ng.shape == (len(matrix.sample_ids), len(matrix.gene_ids))
    assert np.isfinite(x_ng).all() and (x_ng >= 0).all()
    assert len(set(matrix.sample_ids)) == len(matrix.sample_ids)
    if delimiter is None or b'"' in data or matrix.source.orientation != "genes_in_rows":
        return
    rows = plain(data, delimiter)
    values = [[float(field) for field in row[-len(matrix.sample_ids) :]] for row in rows[1:]]
    np.testing.assert_array_equal(x_ng, np.array(values, np.float32).T)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([GCT, TSV, CSV]), st.lists(MUTATION, min_size=0, max_size=3))
def test_mutated_text(data: bytes, mutations: list[tuple[str, float, bytes]]) -> None:
    attempt(mutate(data, mutations), "," if data is CSV else "\t")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([GCT, TSV]), st.lists(MUTATION, min_size=1, max_size=2))
def test_mutated_gzip(data: bytes, mutations: list[tuple[str, float, bytes]]) -> None:
    attempt(mutate(gzip.compress(data, mtime=0), mutations))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes(data: bytes) -> None:
    attempt(data)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet='\t\n,;.0123456789-eENSG#" ab', max_size=200))
def test_arbitrary_text(text: str) -> None:
    attempt(text.encode())


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 90),
    st.randoms(use_true_random=False),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.booleans(),
)
def test_valid_files_of_any_size(
    n: int, g: int, random, end: str, compressed: bool, rows_are_genes: bool
) -> None:
    x_gn = [
        [f"{min(random.lognormvariate(0, 4), 1e30):.{random.randrange(1, 18)}g}" for _ in range(n)]
        for _ in range(g)
    ]
    samples, genes = [f"GTEX-{at}" for at in range(n)], [f"ENSG{at:011d}.1" for at in range(g)]
    table = [["gene", *samples], *([gene, *row] for gene, row in zip(genes, x_gn, strict=True))]
    if not rows_are_genes:
        table = [list(column) for column in zip(*table, strict=True)]
    data = end.join("\t".join(row) for row in table).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "matrix"
        path.write_bytes(gzip.compress(data, mtime=0) if compressed else data)
        matrix = read_matrix(path, unit="tpm")
    np.testing.assert_array_equal(matrix.x_ng, np.array(x_gn, float).astype(np.float32).T)
    assert (matrix.sample_ids, matrix.gene_ids) == (samples, genes)
