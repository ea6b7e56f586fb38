"""Which jobs of a sweep get a processed file of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gtex_vae.runs.sweep import separate_data

COMMAND = ["data.prepare.genes=all", "seed=1,2", "data.prepare.top_genes=100,200"]


@pytest.mark.parametrize(
    ("job", "suffix"),
    [
        (["data.prepare.genes=all", "seed=1"], ""),
        (["data.prepare.genes=all", "seed=1", "data.prepare.top_genes=100"], "_top_genes-100"),
        (["data.prepare.top_genes=100", "data.processed=x.h5ad"], ""),
        (["data.path=a/counts.tsv"], "_path-a-counts.tsv"),
    ],
)
def test_only_settings_of_the_data_that_vary_name_the_file(
    tmp_path: Path, job: list[str], suffix: str
) -> None:
    run_dir = tmp_path / "0"
    (run_dir / ".hydra").mkdir(parents=True)
    (run_dir / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(job))
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": {"task": COMMAND}}}))
    config = {"data": {"processed": "p/x.h5ad", "prepare": {"qc": "p/x_qc"}}}
    separate_data(config, run_dir)
    assert config["data"] == {"processed": f"p/x{suffix}.h5ad", "prepare": {"qc": f"p/x_qc{suffix}"}}
