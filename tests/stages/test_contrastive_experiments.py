"""The contrastive experiments: their files, starting points and resumption."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

import gtex_vae
from gtex_vae.analysis.metrics.retrieval import cosine_similarity, retrieval_metrics
from gtex_vae.data.simulate.bulk import simulate_gtex
from gtex_vae.data.simulate.cells import simulate_singlecell
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.aligner import Aligner
from gtex_vae.models.contrastive import load_head

CELLS = "alignment.cells.prepare"
TINY_CELLS = (
    "alignment.trainer.accelerator=${oc.env:GTEX_VAE_TEST_ACCELERATOR,cpu}", "alignment.trainer.max_epochs=12", "alignment.trainer.check_val_every_n_epoch=2",
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
    saved = torch.load(alignment_run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert saved and not any(name.startswith("aligner.encoder.vae.") for name in saved)
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
        z = aligner.encoder(aligner.encoder.features(x))[:, : trained.vae.latent_dim]
        assert not torch.allclose(z, trained.vae.embed(x), atol=1e-2)  # what was trained has been saved
        assert aligner.project_donors(aligner.encoder(aligner.encoder.features(x))).shape == (5, 4)
    assert torch.equal(aligner.encoder.unit_g, torch.ones_like(aligner.encoder.unit_g))


def test_evaluate_finds_in_the_saved_run_what_training_measured(alignment_run, command):
    done = command("gtex_vae.evaluate", f"run={alignment_run}", cwd=alignment_run.parent)
    assert done.code == 0, done.stderr
    figures = json.loads((alignment_run / "evaluation" / "metrics.json").read_text())
    assert figures == pytest.approx(metrics_of(alignment_run), abs=1e-6)
    intervals = pd.read_csv(alignment_run / "evaluation" / "intervals.csv", keep_default_na=False)
    assert set(intervals["minus"]) == {"", "baseline/expression", "baseline/pca", "baseline/vae"}
    assert "contrastive/top1" in intervals["metric"].tolist()


def test_evaluate_takes_other_donors_too(alignment_run, command, tmp_path):
    cells = simulate_singlecell(n_donors=30, n_cell_types=4, n_genes=120, cells_per_donor=60, seed=7)
    cells.obs["donor"] = "new_" + cells.obs["donor"].astype(str)
    cells.write_h5ad(tmp_path / "other.h5ad")
    done = command(
        "gtex_vae.evaluate", f"run={alignment_run}", f"input={tmp_path / 'other.h5ad'}", cwd=tmp_path
    )
    assert done.code == 0, done.stderr
    folder = alignment_run / "evaluation" / "other"
    figures = json.loads((folder / "metrics.json").read_text())
    ranks = pd.read_csv(folder / "retrieval.csv")
    assert figures["contrastive/chance_top1"] == pytest.approx(1 / len(ranks))
    assert ranks["donor"].str.startswith("new_").all() and len(ranks) > 20
    assert np.isfinite(figures["baseline/pca/contrastive/top1"])
    own = f"input={alignment_run / 'pseudobulk'}"
    done = command("gtex_vae.evaluate", f"run={alignment_run}", own, cwd=tmp_path)
    assert done.code == 0, done.stderr
    splits = pd.read_csv(alignment_run / "splits.csv", dtype=str)
    left = pd.read_csv(alignment_run / "evaluation" / "pseudobulk" / "retrieval.csv", dtype=str)
    assert set(left["donor"]) == set(splits["donor"][splits["split"] != "train"])


def test_report_of_an_alignment_is_a_retrieval_card(alignment_run, command):
    done = command("gtex_vae.analyze", f"run={alignment_run}", cwd=alignment_run.parent)
    assert done.code == 0, done.stderr
    page = (alignment_run / "analysis" / "report.html").read_text(encoding="utf-8")
    assert "{{" not in page and page.count("data:image/svg+xml") == 3
    for text in (
        "chance",
        "untuned VAE",
        "Retrieval controlled for composition",
        "top-1",
        f"{metrics_of(alignment_run)['contrastive/mrr']:.3f}",
    ):
        assert text in page
    assert {path.stem for path in (alignment_run / "analysis" / "figures").glob("*.png")} == {
        "top1", "found_within", "learning_curves",
    }  # fmt: skip


def test_encode_writes_the_projections_of_both_sides(alignment_run, command, tmp_path):
    projected = {}
    for name in ("pseudobulk", "celltype_profiles"):
        given, where = alignment_run / "pseudobulk" / f"{name}.h5ad", tmp_path / name
        done = command("gtex_vae.encode", f"run={alignment_run}", f"input={given}", f"hydra.run.dir={where}")
        assert done.code == 0, done.stderr
        found = anndata.read_h5ad(where / "embeddings.h5ad")
        assert found.obsm["projection"].shape == (found.n_obs, 4)
        table = pd.read_parquet(where / "embeddings.parquet")
        np.testing.assert_array_equal(table[[f"p_{k}" for k in range(4)]], found.obsm["projection"])
        own = found[found.obs["kind"] == "measured"] if name == "pseudobulk" else found
        rows = pd.DataFrame(own.obsm["projection"]).groupby(own.obs["donor"].astype(str).to_numpy())
        assert rows.nunique().to_numpy().max() == 1  # one of every donor, whatever the number of its profiles
        projected[name] = rows.first()
    splits = pd.read_csv(alignment_run / "splits.csv", dtype=str)
    held_out = splits["donor"][splits["split"] == "test"].tolist()
    sides = [table.loc[held_out].to_numpy() for table in projected.values()]
    figures = retrieval_metrics(cosine_similarity(*sides))
    for key, value in figures.items():
        assert value == pytest.approx(metrics_of(alignment_run)[f"contrastive/{key}"]), key


def test_python_gives_the_same_projections(alignment_run, tmp_path):
    adata = anndata.read_h5ad(alignment_run / "pseudobulk" / "celltype_profiles.h5ad")
    whole = gtex_vae.load(alignment_run).encode(adata).obsm["projection"]
    unknown = adata.obs["cell_type"].astype(str) == adata.obs["cell_type"].astype(str).iloc[0]
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str).where(~unknown, "unheard of")
    part = gtex_vae.load(alignment_run).encode(adata).obsm["projection"]
    assert np.isfinite(whole).all()
    assert np.isnan(part[unknown]).all() and np.isfinite(part[~unknown]).all()
    del adata.obs["cell_type"]
    assert gtex_vae.load(alignment_run).encode(adata).uns["embedding"]["projection"] == "donors"


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


def test_an_alignment_of_the_same_pseudobulk_on_the_vae_of_another_is_the_same(
    train, vae_run, alignment_run, tmp_path
):
    run_dir = tmp_path / "run"
    folder = alignment_run / "pseudobulk"
    done = train(run_dir, "+experiment=contrastive", f"run={alignment_run}", f"input={folder}", *TINY_CELLS)
    assert done.code == 0, done.stderr
    assert metrics_of(run_dir) == metrics_of(alignment_run)
    # which bulk donors the VAE saw has been handed on
    seen = pd.read_csv(vae_run / "splits.csv", dtype=str)
    assert pd.read_csv(run_dir / "vae_splits.csv", dtype=str).equals(seen)


def test_a_loss_that_is_not_finite_stops_the_alignment_with_its_cause(
    train, vae_run, alignment_run, tmp_path
):
    far = ("alignment.optimizer.lr=1e30", "alignment.trainer.gradient_clip_val=null")
    given = (f"run={vae_run}", f"input={alignment_run / 'pseudobulk'}", *TINY_CELLS, *far)
    done = train(tmp_path / "run", "+experiment=contrastive", *given)
    assert done.code == 1
    assert "loss is not finite at step" in done.stderr and "learning rate is 1e+30" in done.stderr
    assert (tmp_path / "run" / "FAILED").exists()


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("input=cells.h5ad",), "input= requires +experiment=contrastive"),
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
    adata = simulate_gtex(n_samples=5, n_genes=120)
    embedded = gtex_vae.load(run_dir).encode(adata)
    assert (run_dir / "projection").exists() == (
        experiment == "contrastive_views"
    )  # the other compares embeddings
    if experiment == "contrastive_views":
        best = torch.load(run_dir / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        head = load_head(run_dir / "projection")
        assert all(
            torch.equal(value, best[f"contrastive.head.{name}"]) for name, value in head.state_dict().items()
        )
        with torch.no_grad():
            expected = head(torch.from_numpy(embedded.X))
        np.testing.assert_allclose(embedded.obsm["projection"], expected, rtol=1e-4, atol=1e-5)
    else:
        assert "projection" not in embedded.obsm


@pytest.mark.parametrize("experiment", ["contrastive_views", "contrastive_tissue"])
def test_terms_beside_the_elbo_resume_exactly(train, command, tmp_path, experiment):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train(whole, f"+experiment={experiment}").code == 0
    step = "gtex_vae.training.module:VAEModule.training_step"
    assert train(broken, f"+experiment={experiment}", die=(step, 12)).code == -signal.SIGKILL
    done = command("gtex_vae.train", f"run={broken}")
    assert done.code == 0, done.stderr
    assert metrics_of(broken) == metrics_of(whole)


def test_a_term_alone_trains_the_encoder_and_is_what_weights_are_chosen_by(train, tmp_path):
    monitors = ("callbacks.best.monitor=val/contrastive", "callbacks.early_stopping.monitor=val/contrastive")
    done = train(tmp_path, "+experiment=contrastive_tissue", "contrastive.elbo_weight=0", *monitors)
    assert done.code == 0, done.stderr
    assert "val/contrastive" in json.loads((tmp_path / "checkpoints" / "best.json").read_text())
    vae = TrainedModel.load(tmp_path / "model").vae
    off_diagonal = [
        weight - torch.diag(weight.diagonal())
        for weight in (
            vae.decoders[0].skip.weight.T @ vae.decoders[0].skip.weight,
            vae.encoders[0].skip.weight @ vae.encoders[0].skip.weight.T,
        )
    ]
    # both paths start with the orthogonal loadings of a PCA
    assert off_diagonal[0].abs().max() < 1e-3 < off_diagonal[1].abs().max()


def test_weight_zero_is_the_plain_vae(train, vae_run, tmp_path):
    run_dir = tmp_path / "run"
    whole = ("callbacks.masking.low=0.0", "callbacks.masking.high=0.0")
    done = train(run_dir, "+experiment=contrastive_views", "contrastive.weight=0.0", *whole)
    assert done.code == 0, done.stderr
    assert metrics_of(run_dir)["reconstruction/r2"] == pytest.approx(
        metrics_of(vae_run)["reconstruction/r2"], abs=1e-4
    )
