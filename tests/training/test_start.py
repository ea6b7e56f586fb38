"""Data that a training starts or resumes with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import RunError
from gtex_vae.training import start
from gtex_vae.training.start import refuse_other_data


def test_a_state_of_other_training_samples_is_not_gone_on_with(tmp_path: Path) -> None:
    x_ng = np.random.default_rng(0).normal(5.0, 1.0, (20, 4)).astype(np.float32)
    scaler = Standardizer(4).fit(x_ng, np.arange(15))
    last = tmp_path / "last.ckpt"
    torch.save({"state_dict": {f"scaler.{name}": value for name, value in scaler.state_dict().items()}}, last)
    refuse_other_data(last, Standardizer(4).fit(x_ng, np.arange(15)))
    others = [
        Standardizer(4).fit(x_ng, np.arange(5, 20)),
        Standardizer(4).fit(2 * x_ng),
        Standardizer(3).fit(x_ng[:, :3]),
    ]
    for other in others:
        with pytest.raises(RunError, match=r"last\.ckpt was trained on other samples, values or genes"):
            refuse_other_data(last, other)
    last.write_bytes(last.read_bytes()[:500])
    with pytest.raises(RunError, match=r"last\.ckpt cannot be read: .*overwrite=true"):
        refuse_other_data(last, scaler)


def test_a_run_resumes_with_its_data_from_another_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = {
        "_target_": "gtex_vae.data.simulate.bulk.simulate_gtex", "n_samples": 60, "n_genes": 60, "n_donors": 12
    }  # fmt: skip
    config = {
        "_target_": "gtex_vae.data.datamodule.ExpressionDataModule",
        "name": "x", "processed": "data/x.h5ad", "prepare": prepare, "batch_size": 8,
    }  # fmt: skip
    project, elsewhere, run = tmp_path / "project", tmp_path / "elsewhere", tmp_path / "run"
    for folder in (project, elsewhere, run / "checkpoints"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(project)
    first = start.read_data(config, run)
    (run / "checkpoints" / "last.ckpt").touch()
    monkeypatch.setattr(start, "refuse_other_data", lambda last, scaler: None)
    monkeypatch.chdir(elsewhere)
    again = start.read_data(config, run)
    assert again.processed == project / "data" / "x.h5ad"
    assert torch.equal(again.expression("val"), first.expression("val"))
    assert not list(elsewhere.iterdir())
