"""Gene ids and symbols in the forms that published tables use."""

from __future__ import annotations

import numpy as np
import pytest

from gtex_vae.data.genes.harmonise import plan_genes
from gtex_vae.data.genes.ids import describe_ids, parse_ensembl, plain_symbol
from gtex_vae.data.genes.table import bundled_genes

TSPAN6 = "ENSG00000000003"


@pytest.mark.parametrize(
    "label",
    ["gene:ENSG00000000003.15", "TSPAN6 (ENSG00000000003)", "ENSG00000000003_TSPAN6", "ENSG00000000003.15_TSPAN6",
     "TSPAN6|ENSG00000000003.15", "ENST00000373020.9|ENSG00000000003.15|x|", "TSPAN6_ENSG00000000003"],
)  # fmt: skip
def test_an_id_among_other_names(label):
    assert parse_ensembl(label) == (TSPAN6, False)


@pytest.mark.parametrize(
    "label", ["TSPAN6 (7105)", "TSPAN6|7105", "tspan6", " TSPAN6 ", "TSPAN6 (ENSG99999999999)"]
)
def test_a_symbol_with_an_entrez_id(label):
    assert bundled_genes().find(label).gene_id == TSPAN6


@pytest.mark.parametrize("label", ["NA", "na", "N/A", "-", "---", ".", "", "?", "?|100130426", "225", "7105"])
def test_what_is_no_symbol(label):
    assert plain_symbol(label) == ""
    assert bundled_genes().find(label) is None


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (["ENST00000456328.2", "ENST00000450305"], "transcripts"),
        (["ENSMUSG00000057666", "ENSMUSG00000041406.3"], "genes of another species"),
        (["7105", "64102"], "Entrez gene ids"),
        (["1007_s_at", "1053_at"], "probe sets"),
        (["cg00000029", "cg00000108"], "methylation probes"),
        (["chr1:11869-14409", "chr1:14404-29570"], "positions"),
    ],
)
def test_unknown_ids_are_described_by_their_kind(labels, kind):
    assert kind in describe_ids(labels)


def test_a_retired_id_has_the_length_of_the_gene_of_its_symbol_and_an_unknown_gene_is_dropped():
    table = bundled_genes()
    labels = [TSPAN6, "ENSG99999999998", "ENSG99999999999"]
    plan = plan_genes(np.ones((2, 3), np.float32), labels, ["TSPAN6", "TP53", ""], table)
    assert list(plan.var.index) == labels
    kept, length_g = plan.with_lengths(table)
    assert list(kept.var.index) == labels[:2]
    np.testing.assert_array_equal(length_g, table.lengths([TSPAN6, "ENSG00000141510"]))
    assert kept.report["dropped"] == {"unknown length": 1}
    taken = kept.columns.take(np.float32([[1, 2, 3]]), None)
    np.testing.assert_array_equal(taken, [[1, 2]])
