"""Conversions of units have closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from gtex_vae.data.units import to_log2_tpm
from gtex_vae.errors import DataError

PATH = Path("matrix.tsv")
RNG = np.random.default_rng(0)
N, G = 12, 3000
COUNTS = RNG.poisson(RNG.lognormal(3, 2, G), (N, G)).astype(np.float32)
LENGTH = RNG.integers(300, 9000, G).astype(float)
RATE = COUNTS / LENGTH
TPM = (RATE / RATE.sum(1, keepdims=True) * 1e6).astype(np.float32)
RPKM = (RATE / COUNTS.sum(1, keepdims=True) * 1e9).astype(np.float32)
LOG_TPM = np.log2(TPM.astype(float) + 1)


@pytest.mark.parametrize(
    ("x_ng", "unit", "length_g", "expected", "named"),
    [
        (TPM, "tpm", None, LOG_TPM, "log2(TPM+1)"),
        (RPKM, "rpkm", None, np.log2(RPKM.astype(float) + 1), "log2(RPKM+1)"),
        (RPKM, "tpm/rpkm", None, np.log2(RPKM.astype(float) + 1), "log2(TPM or RPKM+1)"),
        (np.log2(TPM + 0.001), "log2(tpm+0.001)", None, LOG_TPM, "log2(TPM+1)"),
        (np.log2(TPM + 1), "log2(tpm+1)", None, LOG_TPM, "log2(TPM+1)"),
        (COUNTS, "counts", LENGTH, LOG_TPM, "log2(TPM+1)"),
        (COUNTS, "counts", None, np.log2(COUNTS / COUNTS.sum(1, keepdims=True) * 1e6 + 1), "log2(CPM+1)"),
    ],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_converted(
    x_ng: np.ndarray, unit: str, length_g: np.ndarray | None, expected: np.ndarray, named: str, sparse: bool
) -> None:
    given = sp.csr_matrix(x_ng) if sparse else x_ng.copy()
    out, result = to_log2_tpm(given, unit, length_g, path=PATH)
    dense = out if isinstance(out, np.ndarray) else out.toarray()
    assert result == named and dense.dtype == np.float32
    np.testing.assert_allclose(dense, expected, rtol=1e-5, atol=2e-4)
    if sparse:
        np.testing.assert_array_equal(given.toarray(), x_ng)
    else:
        assert out is given


def test_a_sample_without_counts_stays_zero() -> None:
    x_ng = COUNTS.copy()
    x_ng[5] = 0
    for given in (x_ng, sp.csr_matrix(x_ng)):
        out, _ = to_log2_tpm(given, "counts", path=PATH)
        dense = out if isinstance(out, np.ndarray) else out.toarray()
        assert not dense[5].any() and np.isfinite(dense).all()


def test_gene_without_length_is_refused() -> None:
    with pytest.raises(DataError, match="no positive length"):
        to_log2_tpm(COUNTS.copy(), "counts", np.zeros(G), path=PATH)
