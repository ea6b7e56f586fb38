"""``python -m gtex_vae.evaluate run=... input=...`` scores a matrix like held-out donors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import yaml

from gtex_vae.inference.calibration import FILE

TABLES = {
    "intervals", "genes", "tissues", "covariates", "out_of_distribution", "latent_information",
    "latent_correlations", "distances", "clustering", "traversals",
}  # fmt: skip
UNIT = "unit='log2(tpm+1)'"
TISSUE_KEYS = {"tissue/knn_accuracy", "tissue/logreg_accuracy", "cluster/ari", "cluster/silhouette_tissue"}


@pytest.fixture(scope="module")
def evaluated(train, command, tmp_path_factory) -> Path:
    """Folder with a small run, evaluated; its held-out samples as files: whole, and bare with fewer genes."""
    folder = tmp_path_factory.mktemp("evaluate_input")
    done = train(folder / "run", "trainer.max_epochs=3", f"paths.data={folder / 'data'}")
    assert done.code == 0, done.stderr
    done = command("gtex_vae.evaluate", "run=run", cwd=folder)
    assert done.code == 0, done.stderr
    assert "what the model has seen" in done.stdout
    adata = anndata.read_h5ad(folder / "data/processed/demo.h5ad")
    split = pd.read_csv(folder / "run/splits.csv", index_col="sample")["split"]
    held_out = adata[(split.reindex(adata.obs_names) == "test").to_numpy()].copy()
    held_out.write_h5ad(folder / "whole.h5ad")
    frame = held_out[:, 30:].to_df().T
    frame.index = frame.index + ".3"
    frame.sample(frac=1, random_state=0).to_csv(folder / "bare.tsv.gz", sep="\t")
    held_out.obs[["tissue", "sex"]].rename_axis("sample").to_csv(folder / "labels.csv")
    return folder


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_the_run_keeps_its_reference_and_its_own_held_out_donors_are_judged(evaluated):
    assert (evaluated / "run/model" / FILE).is_file()
    folder = evaluated / "run/evaluation"
    assert {path.stem for path in folder.glob("*.csv")} >= TABLES
    found = metrics(folder)
    judged = pd.read_csv(folder / "out_of_distribution.csv", index_col="sample")
    assert len(judged) == sum(
        found[f"out_of_distribution/{v}"] for v in ("well_inside", "at_the_edge", "outside")
    )
    assert found["latent/dci_informativeness"] < 1 and 0 <= found["latent/mig"] <= 1
    genes, tissues = (pd.read_csv(folder / f"{name}.csv", index_col=0) for name in ("genes", "tissues"))
    assert found["imputation/coverage_90"] == pytest.approx(0.9, abs=0.1)
    assert genes["coverage_90"].mean() == pytest.approx(found["reconstruction/coverage_90"], abs=1e-4)
    assert tissues["imputation_coverage_50"].between(0, 1).all()


def test_the_same_samples_as_a_file_score_the_same(evaluated, command):
    done = command("gtex_vae.evaluate", "run=run", "input=whole.h5ad", cwd=evaluated)
    assert done.code == 0, done.stderr
    own, theirs = metrics(evaluated / "run/evaluation"), metrics(evaluated / "run/evaluation/whole")
    for key, value in own.items():
        if not key.startswith(
            (
                "gene/",
                "embedding/",
                "baseline/pca/gene/",
                "baseline/expression/gene/",
                "latent/mig",
                "latent/dci",
            )
        ):
            assert theirs[key] == pytest.approx(value, rel=1e-3, abs=1e-4), key
    assert theirs["samples_of_training_donors"] == 0
    assert {path.stem for path in (evaluated / "run/evaluation/whole").glob("*.csv")} == TABLES


def test_without_labels_what_needs_them_is_null(evaluated, command):
    done = command("gtex_vae.evaluate", "run=run", "input=bare.tsv.gz", UNIT, cwd=evaluated)
    assert done.code == 0, done.stderr
    folder = evaluated / "run/evaluation/bare"
    found = metrics(folder)
    for key in TISSUE_KEYS:
        assert found[key] is None and found[f"baseline/pca/{key}"] is None
    assert found["genes_present"] == 0.75
    whole = metrics(evaluated / "run/evaluation")
    assert found["reconstruction/r2"] == pytest.approx(whole["reconstruction/r2"], abs=0.15)
    assert found["imputation/coverage_90"] == pytest.approx(0.9, abs=0.1)
    assert np.isfinite(found["baseline/knn/imputation/r2_20"])
    report = json.loads((folder / "alignment.json").read_text())
    assert (report["present"], report["missing"]["count"], report["version_stripped"]) == (90, 30, 90)
    genes = pd.read_csv(folder / "genes.csv", index_col=0)
    assert len(genes) == 90
    judged = pd.read_csv(folder / "out_of_distribution.csv", index_col=0)
    assert judged["nearest_tissue"].notna().all() and judged["tissue"].isna().all()


def test_annotations_bring_the_labels_back(evaluated, command):
    done = command(
        "gtex_vae.evaluate", "run=run", "input=bare.tsv.gz", UNIT, "annotations=[labels.csv]",
        cwd=evaluated,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    found = metrics(evaluated / "run/evaluation/bare")
    assert all(found[key] is not None for key in TISSUE_KEYS)
    judged = pd.read_csv(evaluated / "run/evaluation/bare/out_of_distribution.csv", index_col=0)
    right = (judged["nearest_tissue"] == judged["tissue"]).mean()
    assert found["tissue/knn_accuracy"] == pytest.approx(right)


@pytest.fixture
def without_data(evaluated, tmp_path) -> Path:
    """Copy of the run whose training data is gone."""
    shutil.copytree(evaluated / "run", tmp_path / "run")
    (tmp_path / "run/data_paths.json").unlink(missing_ok=True)
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    config["data"] |= {"prepare": None, "processed": str(tmp_path / "gone.h5ad")}
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def test_without_the_training_data_all_else_is_measured(evaluated, without_data, command):
    for name, share in (("whole.h5ad", 1.0), ("bare.tsv.gz", 0.75)):
        done = command("gtex_vae.evaluate", "run=run", f"input={evaluated / name}", UNIT, cwd=without_data)
        assert done.code == 0, done.stderr
        assert "gone.h5ad" in done.stdout and "left out: tissue accuracies" in done.stdout
        folder = without_data / "run/evaluation" / name.split(".")[0]
        complete = evaluated / "run/evaluation" / name.split(".")[0]
        if not complete.exists():  # by another test of this file, or on another worker
            assert command("gtex_vae.evaluate", "run=run", f"input={name}", UNIT, cwd=evaluated).code == 0
        found, expected = metrics(folder), metrics(complete)
        assert found["genes_present"] == share
        for key in (
            "reconstruction/r2",
            "imputation/r2_20",
            "rate/kl_nats",
            "baseline/pca/reconstruction/r2",
        ):
            assert found[key] == pytest.approx(expected[key], abs=1e-5), key
        assert found["tissue/knn_accuracy"] is None and "baseline/knn/imputation/r2_20" not in found
        judged = pd.read_csv(folder / "out_of_distribution.csv", index_col=0)
        assert (judged["verdict"] == "outside").mean() < 0.2


def test_without_the_training_data_profiles_are_drawn_from_the_prior(without_data, command):
    done = command(
        "gtex_vae.generate", "run=run", "how=prior", "n_samples=5", "hydra.run.dir=made", cwd=without_data
    )
    assert done.code == 0, done.stderr
    assert "left out: nearest tissues and the audit" in done.stdout
    assert anndata.read_h5ad(without_data / "made/synthetic.h5ad").shape == (5, 120)
    done = command("gtex_vae.generate", "run=run", "hydra.run.dir=refused", cwd=without_data)
    assert done.code == 1
    assert "how=tissue needs the training data" in done.stderr and done.stderr.count("\n") == 1


def test_results_go_to_another_folder(evaluated, command, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in (evaluated / "run").rglob("*")}
    done = command("gtex_vae.evaluate", "run=run", f"to={tmp_path / 'results'}", cwd=evaluated)
    assert done.code == 0, done.stderr
    assert metrics(tmp_path / "results/evaluation") == metrics(evaluated / "run/evaluation")
    assert {path.name for path in (tmp_path / "results").iterdir()} == {
        "evaluation", "gene_embeddings.h5ad", "gene_embeddings.parquet",
    }  # fmt: skip
    assert {path: path.stat().st_mtime_ns for path in (evaluated / "run").rglob("*")} == before


def test_too_few_genes_are_one_line(evaluated, command):
    done = command("gtex_vae.evaluate", "run=run", "input=bare.tsv.gz", "min_overlap=0.9", cwd=evaluated)
    assert done.code == 1
    assert "only 90 of the model's 120 genes (75.0%)" in done.stderr and done.stderr.count("\n") == 1


def test_data_whose_values_have_changed_since_are_refused(evaluated, command, tmp_path):
    shutil.copytree(evaluated / "run", tmp_path / "run")
    adata = anndata.read_h5ad(evaluated / "data/processed/demo.h5ad")
    adata.X *= 0.5
    adata.write_h5ad(tmp_path / "changed.h5ad")
    config = tmp_path / "run/config.yaml"
    text = config.read_text().replace(
        str(evaluated / "data/processed/demo.h5ad"), str(tmp_path / "changed.h5ad")
    )
    config.write_text(text)
    done = command("gtex_vae.evaluate", "run=run", cwd=tmp_path)
    assert done.code == 1
    assert "changed.h5ad: its training samples have other values" in done.stderr.splitlines()[-1]
