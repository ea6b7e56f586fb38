"""Harmonisation and gene mapping equal reindexing by pandas, for any order, copies and names."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from gtex_vae.data.genes.columns import add_expression
from gtex_vae.data.genes.harmonise import KeepGenes, harmonise
from gtex_vae.data.genes.mapping import map_genes, plan_gene_mapping
from gtex_vae.data.genes.table import bundled_genes
from gtex_vae.errors import DataError

IDS = [str(gene) for gene in bundled_genes().of_biotype().frame.index[:12]]
UNIT = "log2(TPM+1)"


def matrix(n: int, g: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(1.0, 2.0, (n, g)).astype(np.float32)


layouts = pytest.mark.parametrize(
    "layout", [np.ascontiguousarray, np.asfortranarray, sp.csr_matrix, sp.csr_array]
)
subsets = st.lists(st.sampled_from(IDS), min_size=1, unique=True)


@layouts
@settings(deadline=None, max_examples=40)
@given(model=subsets, data=subsets, seed=st.integers(0, 99))
def test_alignment_is_reindexing(layout, model, data, seed):
    x = matrix(5, len(data), seed)
    mean_g = np.arange(len(model), dtype=np.float32)
    expected = (
        pd.DataFrame(x, columns=data).reindex(columns=model).fillna(dict(zip(model, mean_g, strict=True)))
    )
    if not set(model) & set(data):
        with pytest.raises(DataError, match=r"\(0\.0%\)"):
            map_genes(layout(x), data, None, model, mean_g=mean_g, unit=UNIT, min_overlap=0.0)
        return
    new = map_genes(layout(x), data, None, model, mean_g=mean_g, unit=UNIT, min_overlap=0.0)
    assert new.x_ng.dtype == np.float32
    np.testing.assert_array_equal(new.x_ng, expected.to_numpy())
    assert new.present_g.tolist() == [gene in data for gene in model]
    assert new.report["missing"]["count"] == len(set(model) - set(data))
    assert new.report["extra"]["count"] == len(set(data) - set(model))


@layouts
@settings(deadline=None, max_examples=25)
@given(order=st.permutations(range(len(IDS) + 2)), rows=st.integers(0, 70))
def test_the_order_of_columns_does_not_matter(layout, order, rows):
    labels = [f"{gene}.{i + 1}" for i, gene in enumerate(IDS)] + [f"{IDS[0]}.1_PAR_Y", "unheard of"]
    x = matrix(rows, len(labels))
    mean_g = np.zeros(len(IDS), np.float32)
    straight = map_genes(layout(x), labels, None, IDS, mean_g=mean_g, unit=UNIT)
    shuffled = map_genes(layout(x[:, order]), [labels[i] for i in order], None, IDS, mean_g=mean_g, unit=UNIT)
    np.testing.assert_allclose(straight.x_ng, shuffled.x_ng, rtol=1e-6)
    assert straight.report["y_copies_added"] == shuffled.report["y_copies_added"] == 1
    linear = (np.exp2(x[:, 0]) - 1) + (np.exp2(x[:, -2]) - 1)
    np.testing.assert_allclose(straight.x_ng[:, 0], np.log2(linear + 1), rtol=1e-5)


def test_what_is_aligned_already_is_not_copied():
    x = matrix(4, len(IDS))
    assert map_genes(x, IDS, None, IDS, mean_g=np.zeros(len(IDS), np.float32), unit=UNIT).x_ng is x


def test_aligning_twice_changes_nothing():
    x, mean_g = matrix(4, 8), np.full(len(IDS), 3, np.float32)
    once = map_genes(x, IDS[4:], None, IDS, mean_g=mean_g, unit=UNIT)
    twice = map_genes(once.x_ng, IDS, None, IDS, mean_g=mean_g, unit=UNIT)
    np.testing.assert_array_equal(once.x_ng, twice.x_ng)


def test_missing_genes_are_zero_after_standardizing():
    x, mean_g = matrix(6, 8), matrix(1, len(IDS))[0]
    new = map_genes(x, IDS[4:], None, IDS, mean_g=mean_g, unit=UNIT)
    assert not (new.x_ng - mean_g)[:, ~new.present_g].any()
    assert (~new.present_g).sum() == 4


def test_blocks_are_aligned_as_the_whole():
    x, mean_g = matrix(9, 8), np.ones(len(IDS), np.float32)
    plan = plan_gene_mapping(x, IDS[4:], None, IDS)
    whole = plan.apply(x, mean_g, unit=UNIT)
    parts = [plan.apply(sp.csr_array(x[i : i + 4]), mean_g, unit=UNIT) for i in (0, 4, 8)]
    np.testing.assert_array_equal(np.vstack(parts), whole)


def test_symbols_former_symbols_and_retired_ids_find_the_models_genes():
    model = ["ENSG00000169429", "ENSG00000141510", "ENSG00000180096", "ENSG00000111640"]
    labels = ["IL8", "ENSG00000000000.1", "sept1", "ENSG00000223972.5", "ENSG00000111640"]
    names = ["", "TP53", "", "GAPDH", "GAPDH"]  # a pseudogene with a wrong symbol stays a pseudogene
    x = matrix(2, 5)
    new = map_genes(x, labels, names, model, mean_g=np.zeros(4, np.float32), unit=UNIT)
    np.testing.assert_array_equal(new.x_ng, x[:, [0, 1, 2, 4]])
    assert new.report["renamed"]["count"] == 3
    assert new.report["identified_by"] == {"previous symbol": 2, "symbol": 1, "id": 1}
    assert new.report["extra"]["examples"] == ["ENSG00000223972.5"]


def test_retired_ids_meet_by_their_symbol_in_either_direction():
    old, new = "ENSG00000112096", "ENSG00000291237"  # both SOD2, in older and newer releases
    x, mean_g = matrix(2, 2), np.zeros(2, np.float32)
    for data, model in ((old, new), (new, old)):
        aligned = map_genes(
            x,
            [data, IDS[0]],
            ["SOD2", ""],
            [IDS[0], model],
            model_gene_names=["", "SOD2"],
            mean_g=mean_g,
            unit=UNIT,
        )
        np.testing.assert_array_equal(aligned.x_ng, x[:, ::-1])
        assert aligned.report["renamed"]["examples"] == [f"{data} -> {model} (symbol)"]


def test_a_retired_id_is_kept_as_it_is_with_the_biotype_of_its_symbol():
    out = harmonise(
        matrix(2, 2), ["ENSG00000112096.17", "IL8"], ["SOD2", ""], bundled_genes().of_biotype(), unit=UNIT
    )
    assert list(out.var.index) == ["ENSG00000112096", "ENSG00000169429"]
    assert list(out.var["gene_name"]) == ["SOD2", "CXCL8"]
    assert out.var["biotype"].eq("protein_coding").all()
    assert out.report["retired_ids"]["count"] == 1
    assert out.report["renamed"]["examples"] == ["IL8 -> ENSG00000169429 (previous symbol)"]


def test_a_models_own_ids_and_names_need_be_no_ensembl_ids():
    x = matrix(3, 3)
    new = map_genes(
        x,
        ["g2", "beta", "g9"],
        None,
        ["g1", "g2"],
        model_gene_names=["beta", "two"],
        mean_g=x[0, :2],
        unit="x",
    )
    np.testing.assert_array_equal(new.x_ng, x[:, [1, 0]])


def test_too_small_an_overlap_is_refused_and_says_so():
    x = matrix(2, 3)
    with pytest.raises(DataError, match=r"only 3 of the model's 12 genes \(25\.0%\).*min_overlap=50%"):
        map_genes(x, IDS[:3], None, IDS, mean_g=np.zeros(12, np.float32), unit=UNIT)
    assert map_genes(x, IDS[:3], None, IDS, mean_g=np.zeros(12, np.float32), unit=UNIT, min_overlap=0.25)
    with pytest.raises(DataError, match="3 columns but 2 gene ids"):
        map_genes(x, IDS[:2], None, IDS, mean_g=np.zeros(12, np.float32), unit=UNIT)


def test_of_duplicates_the_better_evidence_stands_then_the_higher_mean():
    x = np.float32([[1, 9, 2, 3], [1, 9, 2, 3]])
    out = harmonise(
        x,
        ["ENSG00000169429.1", "IL8", "ENSG00000141510.1", "ENSG00000141510.2"],
        None,
        bundled_genes(),
        unit=UNIT,
    )
    np.testing.assert_array_equal(out.x_ng, x[:, [0, 3]])
    assert out.report["duplicates"]["count"] == out.report["dropped"]["duplicate of a gene"] == 2
    assert list(out.var["label"]) == ["ENSG00000169429.1", "ENSG00000141510.2"]


@pytest.mark.parametrize("unit", ["counts", "tpm", UNIT, "log2(tpm+0.001)"])
def test_y_copies_add_up_on_the_linear_scale(unit):
    offset = {"counts": None, "tpm": None, UNIT: 1.0, "log2(tpm+0.001)": 0.001}[unit]
    tpm = np.float32([[3.0, 5.0], [0.0, 0.25]])
    x = tpm if offset is None else np.log2(tpm + np.float32(offset))
    expected = tpm.sum(axis=1) if offset is None else np.log2(tpm.sum(axis=1) + offset)
    for labels in (
        ["ENSG00000182378.13", "ENSG00000182378.13_PAR_Y"],
        ["ENSGR0000182378.1", "ENSG00000182378"],
    ):
        for layout in (np.asarray, sp.csr_matrix):
            out = harmonise(layout(x), labels, None, bundled_genes(), unit=unit).x_ng
            dense = out.toarray() if sp.issparse(out) else out
            np.testing.assert_allclose(dense[:, 0], expected, rtol=1e-4, atol=1e-6)


@given(st.floats(0, 2**-4), st.floats(0, 1e6, width=32))
def test_adding_nothing_changes_nothing(zero, value):
    del zero
    a = np.log2(np.float32([value]) + 1)
    np.testing.assert_allclose(add_expression(a, np.float32([0.0]), 1.0), a, atol=1e-5)


def test_coding_filter_counts_what_it_drops():
    labels = ["ENSG00000000003.15", "ENSG00000223972.5", "N_unmapped", "ENSG00000000005.6"]
    keep = KeepGenes(bundled_genes().of_biotype())
    assert [keep(label, None) for label in labels] == [True, False, False, True]
    out = harmonise(matrix(2, 4), labels, None, bundled_genes().of_biotype(), unit=UNIT)
    expected = {"gene of another biotype or list": 1, "unknown gene": 1}
    assert out.report["dropped"] == dict(keep.dropped) == expected
    assert out.var["biotype"].eq("protein_coding").all() and list(out.var["gene_name"]) == ["TSPAN6", "TNMD"]


def test_no_human_gene_is_refused():
    with pytest.raises(DataError, match=r"none of the 2 genes is in .*ENSMUSG00000064372.*apple"):
        harmonise(
            matrix(2, 2), ["ENSMUSG00000064372", "apple"], None, bundled_genes().of_biotype(), unit=UNIT
        )


@pytest.mark.parametrize(
    ("labels", "names", "foreign"),
    [
        (["Tp53", "Gapdh", "C1orf112"], None, True),
        (["ENSMUSG00000059552.8", "ENSMUSG00000057666", "ENSMUSG00000041406"], ["Trp53", "Gapdh", "Cxcl8"], True),
        (["TP53", "GAPDH", "C1orf112"], None, False),
        (["tp53", "gapdh", "c1orf112"], None, False),
        (["ENSG00000141510", "ENSG00000111640", "Cxcl8"], None, False),
    ],
)  # fmt: skip
def test_genes_of_another_species_are_taken_by_their_symbols_but_not_without_a_word(
    labels, names, foreign, caplog
):
    model = ["ENSG00000141510", "ENSG00000111640", "ENSG00000000460", "ENSG00000169429"]
    plan_gene_mapping(matrix(1, 3), labels, names, model, min_overlap=0.1)
    harmonise(matrix(1, 3), labels, names, bundled_genes().of_biotype(), unit=UNIT)
    assert caplog.text.count("names of another species") == 2 * foreign
    caplog.clear()
    plan_gene_mapping(matrix(1, 3), labels, names, labels, min_overlap=0.1)  # a model of that species
    assert not caplog.text


@pytest.mark.parametrize("copies", [2, 5])
def test_exons_and_long_tables_are_refused(copies):
    genes = [str(gene) for gene in bundled_genes().of_biotype().frame.index[:150]]
    labels = [gene for gene in genes for _ in range(copies)]
    with pytest.raises(DataError, match=r"genes repeat another one.*exons, probes or a long table"):
        harmonise(np.ones((1, len(labels)), np.float32), labels, None, bundled_genes(), unit="counts")
    harmonise(np.ones((1, 160), np.float32), [*genes, *genes[:10]], None, bundled_genes(), unit="counts")
