"""A sweep over settings of the data keeps the processed file of each job."""

from __future__ import annotations

import yaml


def test_each_job_has_a_processed_file_of_its_own(command, tmp_path):
    done = command(
        "gtex_vae.preprocess", "-m", "data.prepare.n_genes=110,120", "data.prepare.n_samples=150", cwd=tmp_path
    )  # fmt: skip
    assert done.code == 0, done.stderr
    processed = tmp_path / "data" / "processed"
    assert {path.name for path in processed.glob("*.h5ad")} == {
        "demo_n_genes-110.h5ad",
        "demo_n_genes-120.h5ad",
    }
    (sweep,) = (tmp_path / "outputs" / "preprocess" / "sweeps").iterdir()
    for job, genes in ((0, 110), (1, 120)):
        config = yaml.safe_load((sweep / str(job) / "config.yaml").read_text())
        assert config["data"]["processed"] == f"data/processed/demo_n_genes-{genes}.h5ad"
        assert config["data"]["prepare"]["n_genes"] == genes
