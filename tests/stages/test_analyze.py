"""The report of a small run: all files exist, and the page is complete and correct."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

FIGURES = {
    "map_pca", "map_umap", "map_tsne", "differences", "genes", "tissues", "kl_per_dimension", "training_curves",
    "confusion", "coverage", "distances", "clustering", "latent_information", "traversals",
    "gene_function",
}  # fmt: skip
TABLES = {
    "coordinates", "gene_neighbours", "genes", "tissues", "confusion", "leakage", "near_duplicates",
}  # fmt: skip
VOID = {"meta", "link", "input", "img", "br"}


class Page(HTMLParser):
    """Elements of a page; fails if tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)


@pytest.fixture(scope="module")
def text(analyzed) -> str:
    return (analyzed / "analysis" / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def embedded(text) -> dict:
    (script,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(script, parse_constant=pytest.fail)


def decoded(encoded: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(encoded), dtype)


def test_every_file_is_there_and_it_was_evaluated_first(analyzed):
    assert (analyzed / "evaluation" / "metrics.json").exists()
    folder = analyzed / "analysis"
    assert {path.stem for path in folder.glob("*.csv")} == TABLES
    for suffix, start in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        found = list((folder / "figures").glob(f"*.{suffix}"))
        assert {path.stem for path in found} == FIGURES
        assert all(path.read_bytes().startswith(start) for path in found)
    assert not list(folder.rglob(".*"))


def test_evaluate_reads_the_pca_of_train(analyzed):
    at_the_end, evaluated = (
        json.loads(path.read_text())
        for path in (analyzed / "metrics.json", analyzed / "evaluation" / "metrics.json")
    )
    own = {key: value for key, value in at_the_end.items() if key.startswith("baseline/pca/")}
    assert own
    assert own == {key: evaluated[key] for key in own}
    assert (analyzed / "model" / "pca.safetensors").is_file()


def test_every_metric_is_in_the_catalogue(analyzed):
    from gtex_vae.analysis.metrics.catalogue import METRICS, describe

    metrics = json.loads((analyzed / "evaluation" / "metrics.json").read_text())
    known = {key for key in metrics if describe(key).label != describe(key).key}
    assert known == metrics.keys()
    assert METRICS.keys() >= {key for key in metrics if key.startswith(("reconstruction/", "imputation/"))}


def test_page_is_whole_small_and_asks_for_nothing(text):
    page = Page(text)
    assert len(text) < 3_000_000
    assert len(page.scripts) == 2
    for tag, attributes in page.elements:
        for name in {"src", "href", "data", "action", "poster", "srcset"} & set(attributes):
            assert attributes[name].startswith(("#", "data:")), (tag, name)
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttp|import\(", text)
    figures = [a for tag, a in page.elements if tag == "img"]
    assert len(figures) == len(FIGURES) - 3  # the page's script draws the maps
    assert all(a["alt"] for a in figures)
    assert "{{" not in text


def test_embedded_data_is_that_of_the_tables(analyzed, embedded):
    coordinates = pd.read_csv(analyzed / "analysis" / "coordinates.csv", index_col=0, dtype={"donor": str})
    assert embedded["samples"] == coordinates.index.tolist()
    assert len(coordinates) == 150
    for method, name in (("PCA", "pca"), ("UMAP", "umap"), ("t-SNE", "tsne")):
        xy_n2 = decoded(embedded["maps"][method], "<f4").reshape(-1, 2)
        np.testing.assert_allclose(xy_n2, coordinates[[f"{name}_1", f"{name}_2"]], rtol=1e-4, atol=1e-4)
    columns = {column["name"]: column for column in embedded["columns"]}
    assert {"tissue", "donor", "age", "rin", "split"} <= set(columns)
    for name in ("tissue", "donor", "split"):
        codes = decoded(columns[name]["codes"], "<u2")
        assert [columns[name]["levels"][code] for code in codes] == coordinates[name].tolist()
        assert len(columns[name]["levels"]) == len(columns[name]["colors"]) == len(columns[name]["markers"])


def test_gene_neighbours_are_the_same_in_the_page_and_the_table(analyzed, embedded):
    genes = embedded["genes"]
    table = pd.read_csv(analyzed / "analysis" / "gene_neighbours.csv")
    index = decoded(genes["neighbours"], "<u4")
    assert [genes["ids"][i] for i in index] == table["neighbour_id"].tolist()
    assert (table["gene_id"] != table["neighbour_id"]).all()
    np.testing.assert_allclose(decoded(genes["cosine"], "<i2") / 10_000, table["cosine"], atol=1e-4)


def test_a_split_by_donor_is_clean(analyzed):
    checks = pd.read_csv(analyzed / "analysis" / "leakage.csv")
    assert checks["passed"].tolist() == [True, True, True]


def test_tables_of_genes_and_tissues_agree_with_evaluation(analyzed):
    ours = pd.read_csv(analyzed / "analysis" / "genes.csv", index_col=0)
    theirs = pd.read_csv(analyzed / "evaluation" / "genes.csv", index_col=0)
    np.testing.assert_allclose(ours["r2_model"], theirs["r2"], rtol=1e-3, atol=1e-4)
    ours = pd.read_csv(analyzed / "analysis" / "tissues.csv", index_col=0)
    theirs = pd.read_csv(analyzed / "evaluation" / "tissues.csv", index_col=0)
    np.testing.assert_allclose(ours["r2_model"], theirs["r2"], rtol=1e-3, atol=1e-4)
    metrics = json.loads((analyzed / "evaluation" / "metrics.json").read_text())
    confusion = pd.read_csv(analyzed / "analysis" / "confusion.csv", index_col=0)
    right = np.diag(confusion.to_numpy()).sum() / confusion.to_numpy().sum()
    assert right == pytest.approx(metrics["tissue/knn_accuracy"])
