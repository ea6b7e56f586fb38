"""AnnData as scanpy leaves it is read as what it was made of, in memory, from disk and block by block."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from gtex_vae.data.genes.table import bundled_genes
from gtex_vae.data.preprocess.prepare import prepare_matrix
from gtex_vae.data.readers import read_matrix
from gtex_vae.data.readers.backed import block, from_anndata, open_matrix

RNG = np.random.default_rng(1)
N, G = 9, 900
# a third of the genes are not coding: whole samples add up to 10,000, the coding genes do not
FRAME = bundled_genes().frame
GENES = [
    *FRAME.index[(FRAME["biotype"] == "protein_coding") & (FRAME["length"] != "")][:600],
    *FRAME.index[FRAME["biotype"] == "lncRNA"][:300],
]
COUNTS = RNG.poisson(RNG.lognormal(2, 2, G) * RNG.lognormal(0, 0.5, (N, 1))).astype(np.float32)
TPM = RNG.lognormal(1, 2, (N, G)) * (RNG.random((N, G)) < 0.8)
TPM = (TPM / TPM.sum(1, keepdims=True) * 1e6).astype(np.float32)
CPM = COUNTS / COUNTS.sum(1, keepdims=True) * 1e6


def scanpy(x_ng: np.ndarray, target: float) -> np.ndarray:
    """``sc.pp.normalize_total(target_sum=target)``, then ``sc.pp.log1p``."""
    return np.log1p(x_ng / x_ng.sum(1, keepdims=True) * target).astype(np.float32)


CASES = {
    "counts to 10,000": (scanpy(COUNTS, 1e4), "cpm", CPM),
    "counts to a million": (scanpy(COUNTS, 1e6), "cpm", CPM),
    "TPM": (scanpy(TPM, 1e6), "log2(tpm+1)", np.log2(TPM + 1)),
}


def adata(x_ng: object) -> ad.AnnData:
    return ad.AnnData(x_ng, pd.DataFrame(index=[f"s{n}" for n in range(N)]), pd.DataFrame(index=GENES))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_logarithms_of_scanpy(case: str, sparse: bool, tmp_path: Path) -> None:
    x_ng, unit, expected = CASES[case]
    stored = adata(sp.csr_matrix(x_ng) if sparse else x_ng.copy())
    stored.write_h5ad(tmp_path / "x.h5ad")
    matrix = read_matrix(tmp_path / "x.h5ad")
    in_memory = from_anndata(stored)
    with open_matrix(tmp_path / "x.h5ad") as backed:
        parts = [block(each, 2, 5).x_ng for each in (backed, in_memory)]
        units = {matrix.unit, backed.unit, in_memory.unit}
    assert units == {unit} and "ln(" in matrix.unit_reason
    for found, wanted in zip([matrix.x_ng, *parts], [expected, expected[2:5], expected[2:5]], strict=True):
        dense = found if isinstance(found, np.ndarray) else found.toarray()
        np.testing.assert_allclose(dense, wanted, rtol=1e-4, atol=1e-4)
    untouched = stored.X.toarray() if sparse else stored.X
    np.testing.assert_array_equal(untouched, x_ng)


@pytest.mark.parametrize("in_chunks", [False, True])
def test_normalised_counts_give_the_tpm_of_the_counts(in_chunks: bool, tmp_path: Path) -> None:
    adata(COUNTS).write_h5ad(tmp_path / "counts.h5ad")
    adata(scanpy(COUNTS, 1e4)).write_h5ad(tmp_path / "scanpy.h5ad")
    scratch = str(tmp_path) if in_chunks else None
    made = [prepare_matrix(str(tmp_path / f"{name}.h5ad"), scratch=scratch) for name in ("counts", "scanpy")]
    of_counts, of_scanpy = (
        each.x_ng[:N] if in_chunks else each.X  # type: ignore[union-attr]
        for each in made
    )
    np.testing.assert_allclose(of_scanpy, of_counts, atol=2e-3)
    tables = [each.tables if in_chunks else each for each in made]  # type: ignore[union-attr]
    assert {table.uns["expression"]["unit"] for table in tables} == {"log2(TPM+1)"}
