"""Quality measures of samples, and outliers within their tissue."""

import numpy as np
import pandas as pd
import scipy.sparse as sp

from gtex_vae.data.preprocess.sample_stats import outliers, sample_stats
from gtex_vae.paths import shared_dir

V6 = shared_dir() / "gtex_v6/gtex_v6.h5ad"
UNIT = "log2(TPM+1)"


def test_sample_stats_do_not_depend_on_unit_or_layout():
    tpm = np.random.default_rng(0).gamma(0.5, 20.0, (7, 90)).astype(np.float32)
    plain = sample_stats(tpm, "tpm")
    assert plain["detected_genes"].tolist() == (tpm > 0.1).sum(axis=1).tolist()
    np.testing.assert_allclose(plain["library_size"], tpm.sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(
        plain["top50_share"], np.sort(tpm)[:, -50:].sum(axis=1) / tpm.sum(axis=1), rtol=1e-5
    )
    for unit, offset in ((UNIT, 1.0), ("log2(tpm+0.001)", 0.001)):
        logged = np.log2(tpm + np.float32(offset))
        for layout in (np.asarray, sp.csr_array):
            pd.testing.assert_frame_equal(sample_stats(layout(logged), unit), plain, rtol=1e-4)


def test_missing_values_are_counted_not_summed():
    stats = sample_stats(np.float32([[1, np.nan, 3, np.inf]]), "tpm")
    assert stats.loc[0, ["library_size", "missing_share"]].tolist() == [4.0, 0.5]


def test_a_tissue_is_no_outlier_for_being_another_tissue(tissue_data):
    x, obs = tissue_data(n=130)
    x[obs["tissue"] == "lung"] *= 2.0
    x[:4] *= 2.0
    stats = sample_stats(x, UNIT)
    flagged = outliers(stats, obs["tissue"]).any(axis=1).to_numpy()
    assert flagged.tolist() == [True] * 4 + [False] * 126
    alone = pd.Series(obs.index)  # tissues of one sample have no median worth the name
    pd.testing.assert_frame_equal(outliers(stats, alone), outliers(stats))
