"""Names of genes: ids of every kind, the bundled table, GTF and lists."""

import gzip

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtex_vae.data.genes.files import (
    gene_table,
    read_gene_list,
    read_gtf,
    write_common_genes,
    write_gene_lists,
)
from gtex_vae.data.genes.ids import parse_ensembl
from gtex_vae.data.genes.table import GeneTable, bundled_genes, common_genes, table_from_frame
from gtex_vae.errors import DataError
from gtex_vae.paths import shared_dir

SHARED = shared_dir() / "genes"
real = pytest.mark.real
needs_lists = pytest.mark.skipif(not SHARED.is_dir(), reason="no shared gene lists")

GTF = """##description: made up
chr1\tHAVANA\tgene\t1\t9\t.\t+\t.\tgene_id "ENSG00000000003.16"; gene_type "protein_coding"; gene_name "TSPAN6";
chr1\tHAVANA\ttranscript\t1\t9\t.\t+\t.\tgene_id "ENSG00000000003.16"; gene_type "protein_coding"; gene_name "NO";
chrY\tHAVANA\tgene\t1\t9\t.\t+\t.\tgene_id "ENSG00000182378.15_PAR_Y"; gene_type "protein_coding"; gene_name "PLCXD1";
chr1\tensembl\tgene\t1\t9\t.\t-\t.\tgene_id "ENSG00000223972"; gene_version "5"; gene_biotype "lncRNA";
"""


@given(st.integers(0, 10**11 - 1), st.none() | st.integers(1, 40), st.sampled_from(["", "_PAR_Y", "|TP53"]))
def test_any_version_of_an_id_is_the_same_gene(number, version, suffix):
    plain = f"ENSG{number:011d}"
    label = plain + ("" if version is None else f".{version}") + suffix
    assert parse_ensembl(label) == (plain, suffix == "_PAR_Y")


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("ENSGR0000182378.12", ("ENSG00000182378", True)),
        ("ENSG00000223972.5_4", ("ENSG00000223972", False)),
        ("ENSMUSG00000064372.1", ("ENSMUSG00000064372", False)),
        ("TP53|ENSG00000141510.18", ("ENSG00000141510", False)),
    ],
)
def test_other_ways_to_write_an_id(label, expected):
    assert parse_ensembl(label) == expected


@pytest.mark.parametrize("label", ["", "TP53", "ENSG123", "ENST00000456328.2", "ENSG00000000003x", "7157"])
def test_what_is_no_gene_id(label):
    assert parse_ensembl(label) is None


def table(*rows: tuple[str, str, str, str, str, str]) -> GeneTable:
    columns = ["gene_id", "gene_name", "biotype", "hgnc", "previous", "aliases"]
    return table_from_frame(pd.DataFrame(rows, columns=columns), "test")


A, B, C = (f"ENSG{i:011d}" for i in (1, 2, 3))


def test_a_current_symbol_outranks_a_former_one_and_that_an_alias():
    genes = table(
        (A, "ONE", "protein_coding", "1", "", "TWO|THREE"),
        (B, "TWO", "protein_coding", "2", "THREE", ""),
        (C, "", "protein_coding", "3", "", ""),
    )
    assert [genes.find(s) for s in ("one", "TWO", "THREE", "FOUR")] == [
        (A, "symbol"),
        (B, "symbol"),
        (B, "previous symbol"),
        None,
    ]


def test_a_shared_symbol_is_the_coding_gene_or_the_hgnc_one_or_nobodys():
    by_biotype = table((A, "X", "lncRNA", "9", "", ""), (B, "X", "protein_coding", "", "", ""))
    by_hgnc = table((A, "X", "protein_coding", "", "", ""), (B, "X", "protein_coding", "9", "", ""))
    ambiguous = table(
        (A, "X", "lncRNA", "", "", ""), (B, "X", "lncRNA", "", "", ""), (C, "", "lncRNA", "", "", "X")
    )
    assert [t.identify("X") for t in (by_biotype, by_hgnc, ambiguous)] == [B, B, None]


def test_a_known_id_stands_whatever_its_symbol_says_and_a_retired_one_is_found_by_it():
    genes = table((A, "ONE", "lncRNA", "", "", ""), (B, "TWO", "protein_coding", "", "", ""))
    coding = genes.of_biotype()
    assert coding.identify(A, "TWO") is None  # a lncRNA with a wrong symbol is not the coding gene
    assert coding.identify("ENSG00000000009.1", "TWO") == B
    assert coding.identify("ENSG00000000009.1", None) is None


def test_bundled_table_is_sound():
    genes = bundled_genes()
    frame = genes.frame
    assert frame.index.is_unique and frame.index.str.fullmatch(r"ENSG\d{11}").all()
    assert len(genes) == 78_894 and len(genes.of_biotype()) == 20_120
    for symbol, gene in [
        ("TP53", "ENSG00000141510"),
        ("GAPDH", "ENSG00000111640"),
        ("XIST", "ENSG00000229807"),
    ]:
        assert genes.find(symbol) == (gene, "symbol")
    # renamed so that spreadsheets leave them alone
    assert genes.find("SEPT1") == ("ENSG00000180096", "previous symbol")
    assert frame["length"].astype(int).gt(0).all()


def test_every_unambiguous_symbol_finds_its_own_gene():
    named = bundled_genes().of_biotype().frame["gene_name"]
    named = named[named != ""]
    unique = named[~named.str.upper().duplicated(keep=False)]
    found = [bundled_genes().identify(symbol) for symbol in unique]
    assert (pd.Series(found, index=unique.index) == unique.index).mean() == 1.0


@pytest.mark.parametrize("packed", [False, True])
def test_gtf_reads_gene_lines_only(tmp_path, packed, monkeypatch):
    monkeypatch.setattr("gtex_vae.data.genes.files.BLOCK", 70)  # lines straddle the blocks
    path = tmp_path / ("genes.gtf.gz" if packed else "genes.gtf")
    path.write_bytes(gzip.compress(GTF.encode()) if packed else GTF.rstrip("\n").encode())
    genes = gene_table(path)
    assert list(genes.frame.index) == ["ENSG00000000003", "ENSG00000182378", "ENSG00000223972"]
    assert list(genes.frame["gene_name"]) == ["TSPAN6", "PLCXD1", ""]
    assert list(genes.of_biotype(["lncRNA"]).frame.index) == ["ENSG00000223972"]
    assert genes.identify("TM4SF6") == "ENSG00000000003"  # former symbol, from the bundled table


def test_bad_annotations_are_refused_by_name(tmp_path):
    empty = tmp_path / "empty.gtf"
    empty.write_text("##nothing\n")
    with pytest.raises(DataError, match=r"empty\.gtf: no 'gene' line"):
        read_gtf(empty)
    cut = tmp_path / "cut.gtf.gz"
    cut.write_bytes(gzip.compress(GTF.encode() * 50)[:-20])
    with pytest.raises(DataError, match=r"cut\.gtf\.gz: damaged or cut short"):
        read_gtf(cut)
    with pytest.raises(DataError, match=r"gone\.gtf: cannot be read"):
        read_gtf(tmp_path / "gone.gtf")
    junk = tmp_path / "junk.txt"
    junk.write_text("apples\npears\n")
    with pytest.raises(DataError, match=r"junk\.txt: none of its 2 lines"):
        read_gene_list(junk)
    with pytest.raises(DataError, match="no gene of biotype nonsense"):
        bundled_genes().of_biotype(["nonsense"])


def test_gene_list_takes_ids_symbols_and_comments(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("\ufeffgene,other\n# mine\nENSG00000141510.18,x\nIL8\nENSG99999999999\nIL8\n")
    genes = read_gene_list(path)
    assert list(genes.frame.index) == ["ENSG00000141510", "ENSG00000169429", "ENSG99999999999"]
    assert genes.identify("ENSG00000000003") is None


def test_lists_are_written_in_the_order_of_the_matrix(tmp_path):
    write_gene_lists(tmp_path, ["ENSG2.1", "ENSG1.4"], ["B", ""])
    assert (tmp_path / "ensg_coding_genes.txt").read_text() == "ENSG2.1\nENSG1.4\n"
    assert (tmp_path / "gene_names.txt").read_text() == "B\nENSG1.4\n"


def test_common_genes_need_something_in_common():
    assert common_genes([[f"{B}.1", f"{A}.2", C], [A, f"{B}.9"]]) == [A, B]
    with pytest.raises(DataError, match="no gene is common to the 2 data sets"):
        common_genes([[A], ["TP53"]])


@real
@needs_lists
def test_published_coding_genes_are_covered():
    labels = (SHARED / "ensg_coding_genes.txt").read_text().split()
    names = (SHARED / "gene_names.txt").read_text().split("\n")[: len(labels)]
    coding = bundled_genes().of_biotype()
    found = [coding.identify(label, name) for label, name in zip(labels, names, strict=True)]
    assert sum(gene is not None for gene in found) >= 19_370  # of 19,797, GENCODE 23 against 48
    copies = [label for label in labels if label.startswith("ENSGR")]
    assert copies and all(coding.identify(label) is not None for label in copies)


@real
@needs_lists
def test_symbols_alone_find_the_published_ids():
    labels = (SHARED / "ensg_coding_genes.txt").read_text().split()
    names = (SHARED / "gene_names.txt").read_text().split("\n")[: len(labels)]
    whole = bundled_genes()
    pairs = [
        (parse_ensembl(label).gene_id, whole.identify(name))
        for label, name in zip(labels, names, strict=True)
    ]
    decided = [(gene, found) for gene, found in pairs if gene in whole and found is not None]
    assert len(decided) > 19_000
    assert sum(gene == found for gene, found in decided) / len(decided) > 0.996


@real
@needs_lists
def test_common_list_is_in_the_published_form(tmp_path):
    published = SHARED / "common_gene.txt"
    write_common_genes(tmp_path / "common_gene.txt", reversed(published.read_text().split()))
    assert (tmp_path / "common_gene.txt").read_bytes() == published.read_bytes()
