"""Stages as jobs of a real SLURM, alone and in chains, and several commands at once."""

from __future__ import annotations

import json

import anndata
import pandas as pd
import pytest
from on_slurm import log, shown

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.xdist_group("slurm")]


def test_sweeps_at_once_do_not_mix(everything):
    sweeps = (everything.faults, everything.limit, everything.cells)
    for sweep, jobs in zip(sweeps, (6, 1, 1), strict=True):
        assert len(list(sweep.folder.glob("*_run"))) == jobs
        names = {path.name.partition("_")[0] for path in (sweep.folder / ".submitit").glob("[0-9]*")}
        assert names == {sweep.job}
    assert len({sweep.job for sweep in sweeps}) == 3


def test_a_chain_outlives_a_job_that_was_queued_again(everything):
    chain = everything.chain
    assert chain.code == 0, chain.output
    for stage in ("preprocess", "train", "evaluate"):
        assert (chain.folder / stage / "runs" / "mine" / "SUCCESS").exists()
    run_dir = chain.folder / "train" / "runs" / "mine"
    assert "resuming the unfinished run" in log(run_dir)
    assert (run_dir / "evaluation" / "metrics.json").exists()
    whole = everything.undisturbed / "model" / "weights.safetensors"
    assert (run_dir / "model" / "weights.safetensors").read_bytes() == whole.read_bytes()


def test_no_stage_runs_after_one_that_failed(everything):
    chain = everything.broken
    assert chain.code == 1
    last = chain.output.strip().splitlines()[-1]
    assert last.startswith("error: preprocess failed: nothing.csv: no such file")
    assert "train, evaluate, analyze did not run" in last
    first, *later = chain.job.split()
    assert shown(first, "JobState") == "FAILED"
    assert [shown(job, "JobState") for job in later] == ["CANCELLED"] * 3
    assert sorted(path.name for path in chain.folder.iterdir()) == ["pipeline", "preprocess"]


def test_pseudobulk_as_a_job(everything):
    sweep = everything.cells
    assert sweep.code == 0, sweep.output
    assert len(pd.read_csv(sweep.run_dir(0) / "proportions.csv")) > 0
    assert anndata.read_h5ad(sweep.run_dir(0) / "pseudobulk.h5ad").n_vars == 200


def test_encode_as_a_job(everything):
    sweep = everything.encoded
    assert sweep.code == 0, sweep.output
    assert anndata.read_h5ad(sweep.run_dir(0) / "embeddings.h5ad").shape == (300, 8)


def test_contrastive_training_as_a_job(everything):
    sweep = everything.aligned
    assert sweep.code == 0, sweep.output
    metrics = json.loads((sweep.run_dir(0) / "metrics.json").read_text())
    assert 0.0 <= metrics["contrastive/top1"] <= 1.0
    assert metrics["contrastive/chance_top1"] > 0.0
