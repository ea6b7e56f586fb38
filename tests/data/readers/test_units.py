"""Units are recognised from the values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from gtex_vae.data.readers.units import check_floor, recognise_unit
from gtex_vae.errors import DataError

PATH = Path("matrix.tsv")
RNG = np.random.default_rng(0)
N, G = 12, 3000
COUNTS = RNG.poisson(RNG.lognormal(3, 2, G), (N, G)).astype(np.float32)
LENGTH = RNG.integers(300, 9000, G).astype(float)
RATE = COUNTS / LENGTH
TPM = (RATE / RATE.sum(1, keepdims=True) * 1e6).astype(np.float32)
CPM = (COUNTS / COUNTS.sum(1, keepdims=True) * 1e6).astype(np.float32)
RPKM = (RATE / COUNTS.sum(1, keepdims=True) * 1e9).astype(np.float32)

CASES = {
    "counts": (COUNTS, "counts"),
    "tpm": (TPM, "tpm"),
    "rpkm": (RPKM, "tpm/rpkm"),
    "part of tpm": (TPM[:, : G // 2], "tpm/rpkm"),
    "log2(tpm+1)": (np.log2(TPM + 1), "log2(tpm+1)"),
    "part of log2(tpm+1)": (np.log2(TPM * (np.arange(G) != G - 1) + 1)[:, ::2], "log2(tpm/rpkm+1)"),
    "xena": (np.log2(TPM + 0.001), "log2(tpm+0.001)"),
    "part of xena": (np.log2(TPM + 0.001)[:, ::3], "log2(tpm+0.001)"),
    "cpm": (CPM, "cpm"),
    "tpm rounded": (TPM.round(2), "tpm"),
    "log2(tpm+1) rounded": (np.log2(TPM + 1).round(3), "log2(tpm+1)"),
    "log2(cpm+1)": (np.log2(CPM + 1), "log2(cpm+1)"),
    "log2(count+1)": (np.log2(COUNTS + 1), "log2(count+1)"),
    "log2(count+1) of deep samples": (np.log2(300 * COUNTS + 1), "log2(count+1)"),
    "estimated counts": (COUNTS * 300.37, "counts"),
    "scanpy, 10^4": (np.log1p(CPM / 100), "ln(cp10k+1)"),
    "scanpy, 10^6": (np.log1p(CPM), "ln(cpm+1)"),
    "scanpy, tpm": (np.log1p(TPM), "ln(tpm+1)"),
    "rpkm rounded": (RPKM.round(3), "tpm/rpkm"),
    "rpkm rounded, few genes low": (RPKM.round(2)[:, RPKM.mean(0) > 0.5], "tpm/rpkm"),
    "log2(rpkm+1) rounded": (
        np.rint(256 * np.log2(RPKM * (RPKM.sum(1, keepdims=True) ** -1) * 7e5 + 1)) / 256,
        "log2(tpm/rpkm+1)",
    ),
    "part of cpm": (CPM[:, ::2], "cpm"),
    "part of log2(cpm+1)": (np.log2(CPM + 1)[:, ::2], "log2(cpm+1)"),
    "part of ln(cp10k+1)": (np.log1p(CPM / 100)[:, ::2], "ln(cp10k+1)"),
    "scanpy, median": (
        np.log1p(COUNTS / COUNTS.sum(1, keepdims=True) * np.median(COUNTS.sum(1))),
        "ln(cp10k+1)",
    ),
    "sparse counts": (sp.csr_matrix(COUNTS), "counts"),
}


def negative(x_ng: object) -> str | None:
    return "line 1" if (x_ng < 0).sum() else None  # type: ignore[operator]


@pytest.mark.parametrize("name", CASES)
def test_recognised(name: str) -> None:
    x_ng, unit = CASES[name]
    found, reason = recognise_unit(PATH, x_ng, negative(x_ng))
    assert found == unit
    assert reason


REFUSED = {
    "standardized": ((np.log2(TPM + 1) - 3) / 2, "standardized"),
    "far below the floor": (np.log2(TPM + 1e-6), "cannot be negative"),
    "ln of 10^4, not of counts": (np.log1p(TPM / 100), "unit='ln\\(cp10k\\+1\\)'\" if"),
    "log2 CPM of edgeR": (np.log2(COUNTS / COUNTS.sum(1, keepdims=True) * 1e6 + 0.05), "log-CPM"),
    "log10": (np.log10(TPM + 1), "cannot be recognised"),
    "intensities": (COUNTS * 300.37 + 5.5, "unit=counts if these are"),
    "presence": ((COUNTS > 5).astype(np.float32), "only 0 and 1"),
    "zeros": (np.zeros((3, 4), np.float32), "every value is zero"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    x_ng, message = REFUSED[name]
    with pytest.raises(DataError, match=message):
        recognise_unit(PATH, x_ng, negative(x_ng))


def test_log_cpm_is_not_accepted_as_the_unit_of_toil() -> None:
    log_cpm = np.log2(CPM + 0.05)
    with pytest.raises(DataError, match=r"has its lowest value at -9\.97"):
        check_floor(PATH, "log2(tpm+0.001)", log_cpm, "line 1")
    check_floor(PATH, "log2(tpm+0.001)", np.log2(TPM + 0.001), "line 1")


@pytest.mark.parametrize("decimals", [1, 2, 4])
@pytest.mark.parametrize("n_genes", [300, G])
@pytest.mark.parametrize("n", [1, N])
def test_rounded_abundances_are_never_scaled_counts(decimals: int, n_genes: int, n: int) -> None:
    for linear in (TPM, RPKM):
        part = linear[:n, :n_genes].astype(np.float64)
        for x_ng in (part, np.log2(part + 1), np.log1p(part)):
            try:
                found, _ = recognise_unit(PATH, x_ng.round(decimals).astype(np.float32), None)
            except DataError:
                continue
            assert "tpm" in found or "rpkm" in found
