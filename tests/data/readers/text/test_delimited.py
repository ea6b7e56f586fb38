"""Columns and rows of text tables that do not hold the expression of a sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gtex_vae.data.genes.table import bundled_genes
from gtex_vae.data.readers import RawMatrix, read_matrix
from gtex_vae.errors import DataError

FRAME = bundled_genes().of_biotype().frame.iloc[:40]
GENES, SYMBOLS = list(FRAME.index), list(FRAME["gene_name"])
SAMPLES = ["GTEX-A", "GTEX-B", "GTEX-C"]
COUNTS = np.random.default_rng(0).poisson(300, (40, 3))
TABLE = pd.DataFrame(COUNTS, index=pd.Index(GENES, name="gene_id"), columns=SAMPLES)


def read(table: pd.DataFrame, tmp_path: Path, name: str = "x.tsv", index: bool = True) -> RawMatrix:
    table.to_csv(tmp_path / name, sep="\t", index=index)
    return read_matrix(tmp_path / name)


def check(matrix: RawMatrix, genes: list[str] = GENES) -> None:
    assert (matrix.sample_ids, matrix.gene_ids) == (SAMPLES, genes)
    np.testing.assert_array_equal(matrix.x_ng, COUNTS.T)


@pytest.mark.parametrize("at", [0, 2, 3])
@pytest.mark.parametrize(
    "name",
    ["Entrez_Gene_Id", "ENTREZID", "width", "Gene start (bp)", "gc_content", "baseMean", "padj", "Length", "Chr"],
)  # fmt: skip
def test_columns_that_describe_genes_are_no_samples(name: str, at: int, tmp_path: Path) -> None:
    table = TABLE.copy()
    table.insert(at, name, np.arange(40) + 0.5)
    check(read(table, tmp_path))
    table.reset_index().to_parquet(tmp_path / "x.parquet", index=False)
    check(read_matrix(tmp_path / "x.parquet"))


def test_text_after_the_values_is_left_out(tmp_path: Path) -> None:
    check(read(TABLE.assign(note="novel"), tmp_path))


def test_symbols_of_cbioportal(tmp_path: Path) -> None:
    table = TABLE.set_axis(pd.Index(SYMBOLS, name="Hugo_Symbol"))
    table.insert(0, "Entrez_Gene_Id", range(40))
    check(read(table, tmp_path), SYMBOLS)


@pytest.mark.parametrize("columns", [GENES, SYMBOLS])
def test_covariates_of_samples_in_rows_go_to_obs(columns: list[str], tmp_path: Path) -> None:
    table = pd.DataFrame(COUNTS.T, columns=columns)
    for at, (name, values) in enumerate(
        {"sample_id": SAMPLES, "donor": ["A", "B", "C"], "age": [30, 40, 50], "sex": ["F", "M", "F"]}.items()
    ):
        table.insert(at, name, values)
    matrix = read(table, tmp_path, index=False)
    check(matrix, columns)
    assert matrix.obs is not None
    assert list(matrix.obs["age"]) == ["30", "40", "50"] and list(matrix.obs["sex"]) == ["F", "M", "F"]


QUANTIFICATIONS = {
    "RSEM": ["transcript_id(s)", "length", "effective_length", "expected_count", "TPM", "FPKM"],
    "StringTie": ["Gene Name", "Reference", "Strand", "Start", "End", "Coverage", "FPKM", "TPM"],
    "Salmon": ["Length", "EffectiveLength", "TPM", "NumReads"],
    "GDC": ["gene_name", "unstranded", "stranded_first", "stranded_second", "tpm_unstranded", "fpkm_unstranded"],
}  # fmt: skip


@pytest.mark.parametrize("tool", QUANTIFICATIONS)
def test_a_quantification_is_one_sample(tool: str, tmp_path: Path) -> None:
    columns = QUANTIFICATIONS[tool]
    taken = {"RSEM": "expected_count", "StringTie": "TPM", "Salmon": "NumReads", "GDC": "unstranded"}[tool]
    text = {"transcript_id(s)", "Gene Name", "Reference", "Strand", "gene_name"}
    table = pd.DataFrame(
        {name: "x" if name in text else np.arange(40) * 25 + at for at, name in enumerate(columns)},
        index=TABLE.index,
    )
    matrix = read(table, tmp_path, "S7.genes.results")
    assert matrix.sample_ids == ["S7"]
    np.testing.assert_array_equal(matrix.x_ng[0], table[taken])
    assert read(table, tmp_path, "quant.sf").sample_ids == [tmp_path.name]


@pytest.mark.parametrize("joined", [False, True])
def test_transcripts_are_summed_to_genes(joined: bool, tmp_path: Path) -> None:
    transcripts = [f"ENST{at:011d}.2" for at in range(80)]
    of_gene = [gene for gene in GENES for _ in range(2)]
    half = np.repeat(COUNTS // 2, 2, axis=0)
    half[::2] += COUNTS % 2
    table = pd.DataFrame(half, columns=SAMPLES)
    if joined:
        table.insert(0, "id", [f"{t}|{g}|x|" for t, g in zip(transcripts, of_gene, strict=True)])
    else:
        table.insert(0, "transcript_id", transcripts)
        table.insert(1, "gene_id", of_gene)
    matrix = read(table, tmp_path, index=False)
    assert matrix.sample_ids == SAMPLES and len(matrix.gene_ids) == 40
    np.testing.assert_array_equal(matrix.x_ng, COUNTS.T)
    logs = table.copy()
    logs[SAMPLES] = np.log2(half + 1)
    with pytest.raises(DataError, match="the rows are transcripts"):
        read(logs, tmp_path, index=False)


def test_a_missing_header_is_refused(tmp_path: Path) -> None:
    TABLE.to_csv(tmp_path / "x.tsv", sep="\t", header=False)
    with pytest.raises(DataError, match="numbers where the column names should be; add a header line"):
        read_matrix(tmp_path / "x.tsv")


def test_thousands_separators_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(f'gene_id,a,b\n{GENES[0]},"1,386",7\n{GENES[1]},12,"7,001"\n')
    with pytest.raises(DataError, match="thousands separators"):
        read_matrix(tmp_path / "x.csv")
    (tmp_path / "x.tsv").write_text(f"gene_id\ta\tb\n{GENES[0]}\t1,386\t7\n{GENES[1]}\t12\t7,001\n")
    with pytest.raises(
        DataError, match="'1,386' has a thousands separator or a decimal comma; write 1386 or"
    ):
        read_matrix(tmp_path / "x.tsv")
