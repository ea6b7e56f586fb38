"""Paths of the configs and of test data, and names of expression files."""

from __future__ import annotations

from pathlib import Path

import pytest

from gtex_vae.paths import conf_dir, matrix_name, shared_dir


def test_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert conf_dir().is_absolute()
    assert (conf_dir() / "train.yaml").is_file()
    monkeypatch.setenv("GTEX_VAE_SHARED", str(tmp_path))
    assert shared_dir() == tmp_path
    monkeypatch.delenv("GTEX_VAE_SHARED")
    assert shared_dir() == Path("../shared/data")
    monkeypatch.setattr("gtex_vae.paths.PACKAGE", tmp_path / "a" / "b")
    with pytest.raises(FileNotFoundError, match=r"reinstall gtex-vae"):
        conf_dir()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/x/GTEx_v8_RNASeQCv1.1.9_gene_reads.gct.gz", "GTEx_v8_RNASeQCv1.1.9_gene_reads"),
        ("cells.h5ad", "cells"), ("a.b.TSV", "a.b"), ("folder.zarr/", "folder"), ("plain", "plain"), ("x.v2", "x.v2"),
    ],
)  # fmt: skip
def test_two_files_of_one_release_keep_their_own_names(path, name):
    assert matrix_name(path) == name
