"""Gene embeddings of an evaluated run: files, metrics, gene sets along dimensions, similar genes."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import gtex_vae


@pytest.fixture(scope="module")
def run(train, command, tmp_path_factory) -> Path:
    """An evaluated run."""
    folder = tmp_path_factory.mktemp("genes")
    done = train(folder / "run")
    assert done.code == 0, done.stderr
    done = command("gtex_vae.evaluate", f"run={folder / 'run'}", "supervised_terms=1", cwd=folder)
    assert done.code == 0, done.stderr
    return folder / "run"


def test_all_embeddings_are_judged_side_by_side(run):
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    table = pd.read_csv(run / "evaluation" / "gene_function.csv", index_col=["collection", "embedding"])
    names = ["decoder_loadings", "output_weights", "pca", "expression"]
    assert table.loc["modules"].index.tolist() == names
    prefixes = ("", "embedding/output_weights/", "baseline/pca/", "baseline/expression/")
    for name, prefix in zip(names, prefixes, strict=True):
        for key, column in (("", "auroc"), ("_matched", "matched"), ("_null", "null")):
            value = metrics[f"{prefix}gene/function_auroc{key}/modules"]
            assert value == pytest.approx(table.loc[("modules", name), column], rel=1e-4)
        assert 0.0 <= metrics[f"{prefix}gene/supervised_auroc"] <= 1.0
    assert metrics["gene/function_auroc"] > metrics["gene/function_auroc_null"] + 0.1
    embedded = anndata.read_h5ad(run / "gene_embeddings.h5ad")
    assert set(embedded.obsm) == set(names[:2])
    np.testing.assert_array_equal(embedded.X, embedded.obsm["decoder_loadings"])


def test_gene_sets_along_dimensions_are_written(run):
    table = pd.read_csv(run / "evaluation" / "enrichment.csv")
    assert {"collection", "dimension", "sign", "set", "score", "p", "q"} <= set(table)
    assert set(table["sign"]) == {"+", "-"}
    assert ((table["score"] > 0) == (table["sign"] == "+")).all()
    assert (table["q"] >= table["p"]).all()
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    found = table[table["q"] < 0.05]["dimension"].nunique()
    assert metrics["gene/enriched_dimensions/modules"] == found


def test_similar_genes_from_python(run):
    first = anndata.read_h5ad(run / "gene_embeddings.h5ad").obs["gene_name"].iloc[0]
    table = gtex_vae.gene_neighbours(run, first, k=3, embedding="output_weights")
    assert table["rank"].tolist() == [1, 2, 3]
    assert (table["cosine"].diff().dropna() <= 0).all()
