"""The contrastive experiments from the command line: what they write, what they start from, how they go on."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gtex_vae.models.aligner import Aligner
from gtex_vae.models.trained import TrainedModel

CELLS = "alignment.cells.prepare"
TINY_CELLS = (
    "alignment.trainer.accelerator=cpu", "alignment.trainer.max_epochs=12", "alignment.trainer.check_val_every_n_epoch=2",
    "alignment.batch_size=12", "alignment.model.head=[16,4]", "alignment.pseudobulk.mixtures_per_donor=1",
    f"{CELLS}.n_donors=40", f"{CELLS}.n_cell_types=4", f"{CELLS}.n_genes=120", f"{CELLS}.cells_per_donor=60",
)  # fmt: skip
STEP = "gtex_vae.training.alignment_module:AlignmentModule.training_step"


def metrics_of(run_dir: Path) -> dict[str, float]:
    figures: dict[str, float] = json.loads((run_dir / "metrics.json").read_text())
    return figures


@pytest.fixture(scope="module")
def vae_run(train, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("vae") / "run"
    done = train(run_dir)
    assert done.code == 0, done.stderr
    return run_dir


@pytest.fixture(scope="module")
def alignment_run(train, vae_run, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("alignment") / "run"
    done = train(run_dir, "+experiment=contrastive", f"run={vae_run}", *TINY_CELLS)
    assert done.code == 0, done.stderr
    return run_dir


def test_alignment_writes_a_run(alignment_run, vae_run):
    for name in ("SUCCESS", "config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "retrieval.csv",
                 "model/weights.safetensors", "model/README.md", "alignment/weights.safetensors", "pseudobulk/proportions.csv"):  # fmt: skip
        assert (alignment_run / name).exists(), name
    torch.load(alignment_run / "checkpoints" / "best.ckpt", weights_only=True)
    figures = metrics_of(alignment_run)
    for prefix in ("", "baseline/expression/", "baseline/pca/", "baseline/vae/"):
        for key in ("top1", "top5", "mrr", "median_rank", "foscttm", "chance_top1", "same_composition/top1"):
            assert np.isfinite(figures[f"{prefix}contrastive/{key}"])
    splits = pd.read_csv(alignment_run / "splits.csv")
    held_out = int((splits["split"] == "test").sum())
    assert figures["contrastive/chance_top1"] == pytest.approx(1 / held_out)
    assert splits.groupby("donor")["split"].nunique().max() == 1
    assert len(pd.read_csv(alignment_run / "retrieval.csv")) == held_out


def test_the_saved_alignment_gives_the_projections_that_were_measured(alignment_run):
    trained = TrainedModel.load(alignment_run / "model")
    aligner = Aligner.load(alignment_run / "alignment", trained.vae)
    x = torch.randn(5, trained.vae.n_genes, generator=torch.Generator().manual_seed(0))
    # units are folded back: the tuned encoder takes standardized expression as any other
    with torch.no_grad():
        z = aligner.embed(aligner.features(x))[:, : trained.vae.latent_dim]
        assert not torch.allclose(z, trained.vae.embed(x), atol=1e-2)  # what was trained has been saved
        assert aligner.project_donors(aligner.features(x)).shape == (5, 4)
    assert torch.equal(aligner.unit_g, torch.ones_like(aligner.unit_g))


def test_the_given_vae_is_the_untuned_baseline_and_stays_as_it_is(alignment_run, vae_run):
    before, after = (TrainedModel.load(run / "model").vae.state_dict() for run in (vae_run, alignment_run))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_killed_alignment_goes_on_exactly(train, command, vae_run, alignment_run, tmp_path):
    run_dir = tmp_path / "run"
    killed = train(run_dir, "+experiment=contrastive", f"run={vae_run}", *TINY_CELLS, die=(STEP, 9))
    assert killed.code == -signal.SIGKILL
    done = command("gtex_vae.train", f"run={run_dir}")
    assert done.code == 0, done.stderr
    assert metrics_of(run_dir) == metrics_of(alignment_run)
    whole, resumed = (
        (run / "alignment" / "weights.safetensors").read_bytes() for run in (alignment_run, run_dir)
    )
    assert whole == resumed


def test_without_a_run_a_vae_is_trained_first(train, tmp_path):
    run_dir = tmp_path / "run"
    done = train(run_dir, "+experiment=contrastive", *TINY_CELLS, "alignment.trainer.max_epochs=2")
    assert done.code == 0, done.stderr
    assert (run_dir / "vae" / "SUCCESS").exists()
    assert "reconstruction/r2" in metrics_of(run_dir / "vae")
    assert "contrastive/top1" in metrics_of(run_dir)


def test_pseudobulk_of_another_stage_is_taken_as_it_is(train, vae_run, alignment_run, tmp_path):
    run_dir = tmp_path / "run"
    folder = alignment_run / "pseudobulk"
    done = train(run_dir, "+experiment=contrastive", f"run={vae_run}", f"input={folder}", *TINY_CELLS)
    assert done.code == 0, done.stderr
    assert metrics_of(run_dir) == metrics_of(alignment_run)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("input=cells.h5ad",), "input= is for +experiment=contrastive"),
        (("+experiment=contrastive", "run=nowhere"), "run=nowhere does not exist"),
        (("+experiment=contrastive", "alignment.model.tune=some"), "alignment.model.tune='some'"),
        (("+experiment=contrastive", "alignment.batch_size=1"), "alignment.batch_size=1"),
        (("+experiment=contrastive_tissue", "contrastive.label=organ"), "contrastive.label=organ"),
        (("+experiment=contrastive_views", "contrastive.hidden=1.0"), "hidden=1.0"),
    ],
)
def test_refusals_are_one_line(train, tmp_path, overrides, says):
    done = train(tmp_path / "run", *overrides)
    assert done.code == 1
    assert says in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("experiment", ["contrastive_views", "contrastive_tissue"])
def test_terms_beside_the_elbo_have_all_metrics_of_a_plain_vae(train, vae_run, tmp_path, experiment):
    run_dir = tmp_path / "run"
    done = train(run_dir, f"+experiment={experiment}")
    assert done.code == 0, done.stderr
    assert set(metrics_of(run_dir)) == set(metrics_of(vae_run))


@pytest.mark.parametrize("experiment", ["contrastive_views", "contrastive_tissue"])
def test_terms_beside_the_elbo_resume_exactly(train, command, tmp_path, experiment):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train(whole, f"+experiment={experiment}").code == 0
    step = "gtex_vae.training.module:VAEModule.training_step"
    assert train(broken, f"+experiment={experiment}", die=(step, 12)).code == -signal.SIGKILL
    done = command("gtex_vae.train", f"run={broken}")
    assert done.code == 0, done.stderr
    assert metrics_of(broken) == metrics_of(whole)


def test_weight_zero_is_the_plain_vae(train, vae_run, tmp_path):
    run_dir = tmp_path / "run"
    whole = ("callbacks.masking.low=0.0", "callbacks.masking.high=0.0")
    done = train(run_dir, "+experiment=contrastive_views", "contrastive.weight=0.0", *whole)
    assert done.code == 0, done.stderr
    assert metrics_of(run_dir)["reconstruction/r2"] == pytest.approx(
        metrics_of(vae_run)["reconstruction/r2"], abs=1e-4
    )
