"""Gene lists next to the processed file, and the genes that several data sets have in common."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from gtex_vae.data.genes.table import bundled_genes
from gtex_vae.data.preprocess.gene_lists import gene_lists_folder, genes_of, write_lists
from gtex_vae.data.preprocess.processed import make_processed, read
from gtex_vae.errors import DataError
from gtex_vae.paths import shared_dir

TSV = {
    "_target_": "gtex_vae.data.preprocess.prepare.prepare_matrix",
    "unit": "tpm",
    "min_expression": 0.0,
}
SYMBOLS = {"ENSG00000000003": "TSPAN6", "ENSG00000000419": "DPM1", "ENSG00000000457": "SCYL3"}


@pytest.fixture
def processed(tmp_path: Path) -> Path:
    """Made from a matrix with versioned ids and one gene that is not coding."""
    lines = ["gene\t" + "\t".join(f"GTEX-{n:05d}-0001" for n in range(6))]
    for row, gene in enumerate((*(f"{gene}.1{n}" for n, gene in enumerate(SYMBOLS)), "ENSG00000223972.5")):
        lines.append(gene + "\t" + "\t".join(f"{row + n}.5" for n in range(6)))
    (tmp_path / "raw.tsv").write_text("\n".join(lines) + "\n")
    path = tmp_path / "processed" / "mine.h5ad"
    assert make_processed(path, {**TSV, "path": str(tmp_path / "raw.tsv")})
    return path


def lines(folder: Path, name: str) -> list[str]:
    return (folder / name).read_text().split("\n")[:-1]


def test_ids_as_the_source_has_them_and_names_line_by_line(processed: Path) -> None:
    folder = gene_lists_folder(processed)
    assert lines(folder, "ensg_coding_genes.txt") == [f"{gene}.1{n}" for n, gene in enumerate(SYMBOLS)]
    assert (
        lines(folder, "gene_names.txt") == list(SYMBOLS.values()) == read(processed).var["gene_name"].tolist()
    )
    assert not (folder / "common_gene.txt").exists()


def test_common_genes_of_processed_files_and_matrices(processed: Path, tmp_path: Path) -> None:
    other = ad.AnnData(
        np.ones((2, 2), np.float32), var=pd.DataFrame(index=["ENSG00000000419.9", "ENSG00000000457"])
    )
    other.write_h5ad(tmp_path / "other.h5ad")
    (tmp_path / "symbols.csv").write_text("sample,DPM1,SCYL3,nonsense\na,1,2,3\nb,4,5,6\n")
    write_lists(processed, [str(tmp_path / "other.h5ad")])
    common = gene_lists_folder(processed) / "common_gene.txt"
    assert lines(common.parent, common.name) == ["ENSG00000000419", "ENSG00000000457"]
    # without making the matrix again
    before = processed.stat().st_mtime_ns
    prepare = {**TSV, "path": str(tmp_path / "raw.tsv")}
    assert not make_processed(processed, prepare, common_with=[str(tmp_path / "symbols.csv"), str(processed)])
    assert processed.stat().st_mtime_ns == before
    assert lines(common.parent, common.name) == ["ENSG00000000419", "ENSG00000000457"]


def test_data_sets_with_nothing_in_common_or_no_genes_are_named(processed: Path, tmp_path: Path) -> None:
    (tmp_path / "far.tsv").write_text("gene\ta\tb\nENSG00000012048\t1\t2\n")
    with pytest.raises(DataError, match=r"far.tsv has no gene in common with .*mine.h5ad"):
        write_lists(processed, [str(tmp_path / "far.tsv")])
    ad.AnnData(np.ones((2, 2), np.float32)).write_h5ad(tmp_path / "none.h5ad")
    with pytest.raises(DataError, match=r"none.h5ad: none of its 2 genes"):
        write_lists(processed, [str(tmp_path / "none.h5ad")])
    with pytest.raises(DataError, match=r"gone.tsv"):
        write_lists(processed, [str(tmp_path / "gone.tsv")])


def test_the_demo_has_lists_too(tmp_path: Path) -> None:
    path = tmp_path / "demo.h5ad"
    demo = {
        "_target_": "gtex_vae.data.simulate.bulk.simulate_gtex",
        "n_samples": 30,
        "n_genes": 60,
        "n_donors": 6,
    }
    make_processed(path, demo)
    assert lines(gene_lists_folder(path), "ensg_coding_genes.txt") == list(read(path).var_names)


def test_the_published_list_of_coding_genes_is_known() -> None:
    published = shared_dir() / "genes" / "ensg_coding_genes.txt"
    if not published.exists():
        pytest.skip(f"no real data in {shared_dir()}")
    ids = {line.partition(".")[0] for line in published.read_text().split()}
    assert len(ids & set(bundled_genes().frame.index)) > 0.9 * len(ids)


def test_only_the_ids_of_the_real_v8_file_are_read() -> None:
    real = next((shared_dir() / "gtex_v8").glob("*.gct.gz"), None) if shared_dir().exists() else None
    if real is None:
        pytest.skip(f"no real data in {shared_dir()}")
    assert len(genes_of(real)) == 59
