"""Fingerprints of processed files: when an existing file is valid, and the log line if it is made again."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import h5py
import pytest

from gtex_vae import provenance
from gtex_vae.data.preprocess.fingerprint import PREPARE_VERSION, fingerprint, why_stale
from gtex_vae.data.preprocess.processed import make_processed

PREPARE: dict[str, Any] = {
    "_target_": "gtex_vae.data.simulate.bulk.simulate_gtex", "n_samples": 30, "n_genes": 60, "n_donors": 6, "seed": 1
}  # fmt: skip
FORMER = {**PREPARE, "_target_": "gtex_vae.data.simulate.simulate_gtex"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "demo.h5ad"
    make_processed(path, PREPARE)
    return path


def test_a_correction_of_preprocessing_reaches_existing_files(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in ("fingerprint", "processed"):
        monkeypatch.setattr(f"gtex_vae.data.preprocess.{module}.PREPARE_VERSION", 99)
    with caplog.at_level(logging.INFO, "gtex_vae"):
        assert make_processed(path, PREPARE)
    assert f"made by version {PREPARE_VERSION} of preprocessing, the present version is 99" in caplog.text
    assert not make_processed(path, PREPARE)


def test_a_file_without_the_version_is_made_again(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with h5py.File(path, "r+") as file:
        del file["uns/provenance/prepare_version"]
        file["uns/provenance/settings"][()] = provenance.fingerprint({**FORMER, "source": []})
    with caplog.at_level(logging.INFO, "gtex_vae"):
        assert make_processed(path, PREPARE)
    assert "made by version 1 of preprocessing" in caplog.text


def test_a_moved_module_keeps_files_valid(path: Path) -> None:
    assert not make_processed(path, FORMER)


def test_a_file_whose_source_is_gone_is_used_as_it_is(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = path.with_name("raw.txt")
    source.write_text("")
    prepare = {**PREPARE, "path": str(source)}
    with h5py.File(path, "r+") as file:
        file["uns/provenance/settings"][()] = fingerprint(prepare)
    source.unlink()
    assert why_stale(path, prepare) is None
    assert "raw.txt does not exist" in caplog.text
    assert "n_genes" in str(why_stale(path, {**prepare, "n_genes": 70}))


def test_the_log_names_the_settings_that_differ(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gtex_vae"):
        make_processed(path, {**PREPARE, "n_genes": 70, "seed": 2})
    assert f"making {path} again: other settings: n_genes, seed" in caplog.text
