"""Data that several unit tests train on."""

from __future__ import annotations

from pathlib import Path

import pytest

from gtex_vae.data.datamodule import ExpressionDataModule
from gtex_vae.data.simulate.bulk import simulate_gtex


@pytest.fixture
def data(tmp_path: Path) -> ExpressionDataModule:
    """A small simulated cohort in batches of 16."""
    simulate_gtex(n_samples=120, n_genes=60, n_donors=20, seed=0).write_h5ad(tmp_path / "x.h5ad")
    made = ExpressionDataModule("x", str(tmp_path / "x.h5ad"), batch_size=16)
    made.setup()
    return made
