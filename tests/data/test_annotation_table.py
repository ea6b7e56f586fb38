"""Annotation tables as pandas, R, dbGaP and spreadsheets write them; rows that disagree are named."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest

from gtex_vae.data.annotation_columns import column_named
from gtex_vae.data.annotation_table import read_table
from gtex_vae.data.annotations import annotate

TABLES = {
    "quoted.tsv": '"sample"\t"donor"\t"tissue"\n"S1"\t"D1"\t"Liver"\n"S2"\t"D2"\t"Lung"\n',
    "row_names.tsv": '"donor"\t"tissue"\n"S1"\t"D1"\t"Liver"\n"S2"\t"D2"\t"Lung"\n',
    "hash.tsv": "#sample\tdonor\ttissue\nS1\tD1\tLiver\nS2\tD2\tLung\n",
    "vertical_tab.csv": "sample,notes,donor,tissue\nS1,a\x0bb,D1,Liver\nS2,ok,D2,Lung\n",
    "patient.csv": "sample,Patient ID,tissue\nS1,D1,Liver\nS2,D2,Lung\n",
    "old_mac.csv": "sample,donor,tissue\rS1,D1,Liver\rS2,D2,Lung\r",
}


@pytest.mark.parametrize("name", [*TABLES, "index.parquet", "named_index.parquet"])
def test_every_layout_gives_the_same_annotations(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        index = pd.Index(["S1", "S2"], name="sample" if "named" in name else None)
        pd.DataFrame({"donor": ["D1", "D2"], "tissue": ["Liver", "Lung"]}, index=index).to_parquet(path)
    else:
        path.write_bytes(TABLES[name].encode())
    obs, report = annotate(["S2", "S1"], [path])
    assert obs["donor"].tolist() == ["D2", "D1"]
    assert obs["tissue"].tolist() == ["Lung", "Liver"]
    assert report["tables"][name]["samples_found"] == 2


def test_dbgap_variable_ids_are_no_header(tmp_path: Path) -> None:
    path = tmp_path / "phs.txt"
    path.write_text("# Study\n##\tphv001\tphv002\n\nSUBJID\tSEX\tAGE\nA\t1\t30\n")
    assert list(read_table(path).columns) == ["SUBJID", "SEX", "AGE"]


def test_rows_that_disagree_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "samples.csv"
    path.write_text("sample,donor,tissue\nS1,D1,Liver\nS1,D1,Lung\nS2,D2,Lung\nS2,D2,Lung\n")
    with caplog.at_level(logging.WARNING, "gtex_vae"):
        obs, _ = annotate(["S1", "S2"], [path])
    assert obs["tissue"].tolist() == ["Liver", "Lung"]
    assert "1 ids have rows that disagree; the first row of each is used: S1 (tissue)" in caplog.text


def test_the_preferred_name_wins_whatever_its_place() -> None:
    assert column_named(["subject", "Individual-ID"], ("individual_id", "subject")) == "Individual-ID"
    assert column_named(["tissue"], ("donor",)) is None
