"""Quality control page: figure and tables."""

import numpy as np
import pandas as pd
import pytest

from gtex_vae.data.preprocess.filters import filter_matrix
from gtex_vae.data.preprocess.qc import write_qc
from gtex_vae.paths import shared_dir

V6 = shared_dir() / "gtex_v6/gtex_v6.h5ad"
UNIT = "log2(TPM+1)"


def test_qc_page_is_written(tissue_data, tmp_path):
    x, obs = tissue_data()
    x[3] = 0
    x[5] += 6
    x[8] = x[9]
    obs["age"] = np.where(np.arange(120) < 30, np.nan, 50)
    kept = filter_matrix(x, obs, unit=UNIT)
    write_qc(tmp_path, x, obs, unit=UNIT, reason_n=kept.reason_n)
    table = pd.read_csv(tmp_path / "qc_samples.csv", index_col="sample", keep_default_na=False)
    assert len(table) == 120 and table.loc["s3", "dropped"] == "all zero"
    assert table.loc["s3", "outlier"] == "empty" and "library_size" in table.loc["s5", "outlier"]
    assert table.loc["s8", "near_duplicate_of"] == "s9" and table.loc["s9", "near_duplicate_of"] == "s8"
    pairs = pd.read_csv(tmp_path / "qc_near_duplicates.csv")
    assert set(pairs.loc[0, ["sample", "other"]]) == {"s8", "s9"}
    assert (tmp_path / "qc.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "qc.png",
        "qc_near_duplicates.csv",
        "qc_samples.csv",
    ]


@pytest.mark.parametrize("columns", [[], ["donor"]])
def test_qc_page_without_annotations(tissue_data, tmp_path, columns):
    x, obs = tissue_data(n=6)
    write_qc(tmp_path, x, obs[columns], unit=UNIT)
    assert (tmp_path / "qc.png").stat().st_size > 10_000
