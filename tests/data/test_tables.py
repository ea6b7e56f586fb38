"""Expression tables as people have them give the true expression, or are refused in one line."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gtex_vae.data.preprocess.prepare import prepare_matrix
from gtex_vae.errors import DataError
from gtex_vae.paths import shared_dir

TABLES = shared_dir() / "tables"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not TABLES.is_dir(), reason=f"{TABLES} is not here; set GTEX_VAE_SHARED"),
]

# largest deviation from the true log2(TPM+1): counts are exact, Salmon's estimates deviate by a few per cent
RIGHT = {
    "cpm": 1e-3,
    "log2_counts": 1e-3,
    "retired_id": 2e-3,
    "salmon_counts": 0.06,
    "symbol_na": 1e-3,
    "samples_in_rows": 1e-3,
}
REFUSED = {
    "entrez": "Entrez gene ids",
    "htseq_no_header": "add a header line",
    "logcpm": "log-CPM",
    "thousands": "thousands separators",
}


def expression(case: str) -> pd.DataFrame:
    (path,) = (TABLES / case).iterdir()
    adata = prepare_matrix(str(path))
    return pd.DataFrame(np.asarray(adata.X), adata.obs_names, adata.var_names).T


def truth() -> pd.DataFrame:
    return pd.read_csv(TABLES / "truth/log2_tpm.tsv.gz", sep="\t", index_col=0)


@pytest.mark.parametrize("case", RIGHT)
def test_tables_give_the_true_expression(case):
    found, expected = expression(case), truth()
    assert found.shape == (1998, 12)
    common = found.index.intersection(expected.index)
    assert len(common) >= 1997
    np.testing.assert_allclose(found.loc[common], expected.loc[common], atol=RIGHT[case])


@pytest.mark.parametrize("case", REFUSED)
def test_tables_are_refused_with_the_reason(case):
    with pytest.raises(DataError, match=REFUSED[case]):
        expression(case)


def test_a_sample_of_zeros_is_dropped_alone():
    found = expression("zero_sample")
    assert len(found.columns) == 11 and "S05" not in found.columns


def test_symbols_of_cbioportal_give_the_true_expression():
    found = expression("cbioportal")
    assert found.shape[1] == 12 and "Entrez_Gene_Id" not in found.columns
    common = [gene for gene in found.index if gene in truth().index]
    assert len(common) > 1990
    np.testing.assert_allclose(found.loc[common], truth().loc[common], atol=2e-3)


@pytest.mark.parametrize(("case", "sample"), [("stringtie", "S01"), ("gdc_star", "gdc_star")])
def test_quantifications_are_one_sample(case, sample):
    assert list(expression(case).columns) == [sample]


@pytest.mark.parametrize("case", ["depmap", "transcripts"])
def test_tpm_over_all_genes_is_the_truth_up_to_a_factor_per_sample(case):
    """The true expression adds up to one million over the coding genes alone."""
    found, expected = expression(case), truth()
    common = [gene for gene in found.index if gene in expected.index]
    tpm, true_tpm = (np.exp2(x.loc[common].to_numpy()) - 1 for x in (found, expected))
    factor_n = tpm.sum(axis=0) / true_tpm.sum(axis=0)
    np.testing.assert_allclose(tpm / factor_n, true_tpm, rtol=0.01, atol=0.1)
