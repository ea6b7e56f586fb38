"""Samples of a run whose processed file is missing or was made again with other settings."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from gtex_vae.analysis.evaluation.run_samples import _made_as_the_run_had_it
from gtex_vae.data.preprocess.processed import make_processed, read

PREPARE = {
    "_target_": "gtex_vae.data.simulate.bulk.simulate_gtex", "n_samples": 30, "n_genes": 60, "n_donors": 6, "seed": 1
}  # fmt: skip


def test_a_file_made_again_with_other_settings_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "demo.h5ad"
    data = {"prepare": PREPARE, "memory_gib": None}
    assert _made_as_the_run_had_it(path, data) == path
    assert read(path).n_vars == 60
    make_processed(path, {**PREPARE, "n_genes": 70})
    with caplog.at_level(logging.INFO, "gtex_vae"):
        own = _made_as_the_run_had_it(path, data)
    assert "was made with other settings since (n_genes)" in caplog.text
    assert (read(own).n_vars, read(path).n_vars) == (60, 70)
    assert _made_as_the_run_had_it(path, data) == own


def test_a_file_of_the_users_own_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "own.h5ad"
    path.touch()
    made = tmp_path / "made.h5ad"
    make_processed(made, PREPARE)
    assert _made_as_the_run_had_it(made, {"prepare": {**PREPARE, "n_genes": 70}, "path": str(made)}) == made
    assert _made_as_the_run_had_it(path, {"prepare": PREPARE}) == path
    assert _made_as_the_run_had_it(tmp_path / "no.h5ad", {"prepare": None}) == tmp_path / "no.h5ad"
