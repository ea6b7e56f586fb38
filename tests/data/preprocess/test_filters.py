"""Filters of samples and genes, with a reason for everything dropped."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from gtex_vae.data.preprocess.filters import filter_matrix
from gtex_vae.data.preprocess.sample_stats import outliers, sample_stats
from gtex_vae.errors import DataError
from gtex_vae.paths import shared_dir

V6 = shared_dir() / "gtex_v6/gtex_v6.h5ad"
UNIT = "log2(TPM+1)"


def test_every_drop_has_one_reason_and_they_add_up(tissue_data):
    x, obs = tissue_data()
    x[3] = 0
    x[5] += 6
    x[:, :40] = 0
    x[7, :40] = 5  # one sample in 120 has these genes
    obs["freeze"] = pd.Categorical(["RNASEQ"] * 118 + ["EXCLUDE", None])
    obs["in_freeze"] = obs["freeze"] == "RNASEQ"
    kept = filter_matrix(
        x, obs, unit=UNIT, blacklist=["s3", "s9"], drop_outliers=True, min_prevalence=0.05, top_genes=100
    )
    assert kept.dropped["samples"] == {"blacklisted": 2, "outside the analysis freeze": 1, "outlier": 1}
    assert np.flatnonzero(~kept.keep_n).tolist() == [3, 5, 9, 118]  # 119 has no row, which is no verdict
    assert sum(kept.dropped["samples"].values()) == (~kept.keep_n).sum()
    assert kept.dropped["genes"]["above 0.1 in under 5% of samples"] == 40
    assert sum(kept.dropped["genes"].values()) == (~kept.keep_g).sum() == 200
    assert not kept.keep_g[:40].any()


def test_by_default_only_empty_samples_go(tissue_data):
    x, obs = tissue_data()
    x[3] = 0
    x[5] += 6
    kept = filter_matrix(sp.csr_array(x), obs, unit=UNIT)
    assert kept.dropped == {"samples": {"all zero": 1}, "genes": {}}
    assert kept.keep_g.all()


def test_impossible_filters_are_refused(tissue_data):
    x, obs = tissue_data(n=4)
    with pytest.raises(DataError, match="1 blacklisted samples are not in the matrix: s77"):
        filter_matrix(x, obs, unit=UNIT, blacklist=["s77"])
    with pytest.raises(DataError, match="leave no sample of 4"):
        filter_matrix(x, obs, unit=UNIT, min_detected=9999)
    with pytest.raises(DataError, match="leave no gene of 300"):
        filter_matrix(x, obs, unit=UNIT, min_prevalence=0.5, min_expression=1e9)


@pytest.mark.real
@pytest.mark.skipif(not V6.is_file(), reason="no shared GTEx v6 extract")
def test_the_bad_samples_of_gtex_v6_are_found():
    import anndata as ad

    data = ad.read_h5ad(V6)
    stats = sample_stats(data.X, "log2(RPKM+1)")
    flags = outliers(stats, data.obs["tissue"].reset_index(drop=True))
    assert flags["empty"].sum() == 1 and flags.any(axis=1).sum() == 13
    huge = stats["library_size"] > 1e7
    assert huge.sum() == 11 and flags["library_size"][huge].all()
