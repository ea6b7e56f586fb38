"""A VAE of genes, trained and evaluated as a user does, and judged beside the embeddings of a VAE of samples."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import gtex_vae
from gtex_vae.analysis.evaluation.gene_run import read_gene_wise
from gtex_vae.errors import RunError


@pytest.fixture(scope="module")
def runs(train, command, tmp_path_factory) -> tuple[Path, Path]:
    """A run of samples and one of genes, both evaluated; the first with the second beside."""
    folder = tmp_path_factory.mktemp("genes")
    samples, genes = folder / "samples", folder / "genes"
    done = train(genes, "data.axis=genes")
    assert done.code == 0, done.stderr
    assert "held-out genes" in done.stdout + done.stderr
    done = train(samples)
    assert done.code == 0, done.stderr
    for arguments in ((f"run={genes}",), (f"run={samples}", f"gene_run={genes}", "supervised_terms=1")):
        done = command("gtex_vae.evaluate", *arguments, cwd=folder)
        assert done.code == 0, done.stderr
    return samples, genes


def test_a_run_of_genes_is_measured_on_held_out_genes(runs):
    _, genes = runs
    metrics = json.loads((genes / "metrics.json").read_text())
    again = json.loads((genes / "evaluation" / "metrics.json").read_text())
    assert not any("tissue" in key for key in metrics)
    for key in ("reconstruction/r2", "imputation/r2_20", "baseline/pca/reconstruction/r2", "rate/kl_nats"):
        assert metrics[key] == pytest.approx(again[key], rel=1e-3, abs=1e-4)
    split = pd.read_csv(genes / "gene_splits.csv").set_index("sample")["split"]
    embedded = anndata.read_h5ad(genes / "gene_embeddings.h5ad")
    assert embedded.shape == (120, 8)
    assert embedded.obs["split"].astype(str).to_dict() == split.to_dict()
    assert again["gene/function_auroc"] > again["gene/function_auroc_null"] + 0.1


def test_all_embeddings_are_judged_side_by_side(runs):
    samples, genes = runs
    metrics = json.loads((samples / "evaluation" / "metrics.json").read_text())
    alone = json.loads((genes / "evaluation" / "metrics.json").read_text())
    table = pd.read_csv(samples / "evaluation" / "gene_function.csv", index_col=["collection", "embedding"])
    names = ["decoder_loadings", "output_weights", "gene_wise_vae", "pca", "expression"]
    assert table.loc["modules"].index.tolist() == names
    prefixes = (
        "",
        "embedding/output_weights/",
        "embedding/gene_wise_vae/",
        "baseline/pca/",
        "baseline/expression/",
    )
    for name, prefix in zip(names, prefixes, strict=True):
        for key, column in (("", "auroc"), ("_matched", "matched"), ("_null", "null")):
            value = metrics[f"{prefix}gene/function_auroc{key}/modules"]
            assert value == pytest.approx(table.loc[("modules", name), column], rel=1e-4)
        assert 0.0 <= metrics[f"{prefix}gene/supervised_auroc"] <= 1.0
    beside = metrics["embedding/gene_wise_vae/gene/function_auroc"]
    assert beside == pytest.approx(alone["gene/function_auroc"], abs=1e-6)
    # the same training samples: the same PCA and the same profiles
    for name in ("pca", "expression"):
        key = f"baseline/{name}/gene/function_auroc"
        assert metrics[key] == pytest.approx(alone[key], abs=0.01)
    embedded = anndata.read_h5ad(samples / "gene_embeddings.h5ad")
    assert set(embedded.obsm) == set(names[:3])
    np.testing.assert_array_equal(embedded.X, embedded.obsm["decoder_loadings"])


def test_gene_sets_along_dimensions_are_written(runs):
    table = pd.read_csv(runs[0] / "evaluation" / "enrichment.csv")
    assert {"collection", "dimension", "sign", "set", "score", "p", "q"} <= set(table)
    assert set(table["sign"]) == {"+", "-"}
    assert ((table["score"] > 0) == (table["sign"] == "+")).all()
    assert (table["q"] >= table["p"]).all()
    metrics = json.loads((runs[0] / "evaluation" / "metrics.json").read_text())
    found = table[table["q"] < 0.05]["dimension"].nunique()
    assert metrics["gene/enriched_dimensions/modules"] == found


def test_similar_genes_from_python(runs):
    first = anndata.read_h5ad(runs[0] / "gene_embeddings.h5ad").obs["gene_name"].iloc[0]
    table = gtex_vae.gene_neighbours(runs[0], first, k=3, embedding="gene_wise_vae")
    assert table["rank"].tolist() == [1, 2, 3]
    assert (table["cosine"].diff().dropna() <= 0).all()


@pytest.mark.parametrize(
    ("stage", "arguments", "message"),
    [
        ("analyze", (), "the report is of samples"),
        ("encode", ("input=x.csv",), "encode embeds samples"),
        ("evaluate", ("input=x.csv",), "input= is for runs of samples"),
    ],
)
def test_what_needs_samples_says_so(runs, command, stage, arguments, message):
    done = command(f"gtex_vae.{stage}", f"run={runs[1]}", *arguments, cwd=runs[1].parent)
    assert done.code != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_another_split_would_leak(runs):
    """A run of genes that learnt from a sample that the run of samples holds out."""
    samples, genes = runs
    gene_ids = pd.read_csv(genes / "gene_splits.csv")["sample"].tolist()
    assert read_gene_wise(genes, samples, gene_ids).shape == (120, 8)
    shuffled = samples.parent / "shuffled"
    shuffled.mkdir()
    table = pd.read_csv(samples / "splits.csv")
    table["split"] = table["split"].to_numpy()[::-1]
    table.to_csv(shuffled / "splits.csv", index=False)
    with pytest.raises(RunError, match=r"samples that .* holds out"):
        read_gene_wise(genes, shuffled, gene_ids)
    with pytest.raises(RunError, match=r"was not trained with data\.axis=genes"):
        read_gene_wise(samples, samples, gene_ids)
