from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtex_vae.analysis.genes.function import function_auroc, function_table, permutation_null, unit_length
from gtex_vae.analysis.genes.gene_sets import match, read_gmt
from gtex_vae.errors import DataError
from gtex_vae.paths import shared_dir


def embeddings(g: int = 60, d: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(g, d))


def random_sets(count: int, g: int = 60, seed: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {f"set {i}": random.choice(g, random.integers(2, 20), replace=False) for i in range(count)}


def by_definition(embedding_gd: np.ndarray, genes: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    length_g = np.linalg.norm(embedding_gd, axis=1)
    cosine_gg = embedding_gd @ embedding_gd.T / np.outer(length_g, length_g)
    score_g = [cosine_gg[i, [m for m in genes if m != i]].mean() for i in range(len(embedding_gd))]
    return roc_auc_score(np.isin(np.arange(len(embedding_gd)), genes), score_g)


def test_agrees_with_the_definition_and_sklearn():
    embedding_gd = embeddings()
    table = function_table(unit_length(embedding_gd), random_sets(20))
    expected = [by_definition(embedding_gd, genes) for genes in random_sets(20).values()]
    np.testing.assert_allclose(table["auroc"], expected, atol=1e-6)
    assert list(table["genes"]) == [len(genes) for genes in random_sets(20).values()]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_rotation_length_and_order_of_genes_do_not_matter(seed):
    random = np.random.default_rng(seed)
    embedding_gd, sets = embeddings(), random_sets(5)
    before = function_table(unit_length(embedding_gd), sets)["auroc"].to_numpy()
    rotation_dd = np.linalg.qr(random.normal(size=(5, 5)))[0]
    scaled_gd = embedding_gd @ rotation_dd * random.uniform(0.01, 100, (60, 1))
    np.testing.assert_allclose(function_table(unit_length(scaled_gd), sets)["auroc"], before, atol=5e-3)
    order = random.permutation(60)
    moved = {name: np.argsort(order)[genes] for name, genes in sets.items()}
    np.testing.assert_allclose(
        function_table(unit_length(embedding_gd[order]), moved)["auroc"], before, atol=5e-3
    )


def test_modules_are_found_and_shuffled_modules_are_not():
    module_g = np.repeat(np.arange(8), 25)
    embedding_gd = np.eye(8)[module_g] + 0.05 * embeddings(200, 8)
    sets = {str(m): np.flatnonzero(module_g == m) for m in range(8)}
    assert function_table(unit_length(embedding_gd), sets)["auroc"].min() == 1
    null_ps = permutation_null(unit_length(embedding_gd), list(sets.values()), permutations=50)
    assert null_ps.shape == (50, 8)
    # a member's own similarity is excluded, which matters with eight tight modules
    assert 0.42 < null_ps.mean() < 0.5
    assert null_ps.max() < 0.8


def test_the_null_of_embeddings_without_clusters_is_one_half():
    unit_gd = unit_length(embeddings(400, 30))
    members = [np.arange(i, i + 30) for i in range(0, 360, 30)]
    assert permutation_null(unit_gd, members, permutations=40).mean() == pytest.approx(0.5, abs=0.01)


def test_ties_count_half_and_genes_without_embedding_are_similar_to_none():
    same_gd = np.ones((30, 3))
    assert function_auroc(unit_length(same_gd), [np.arange(10)])[0] == pytest.approx(0.5, abs=1e-9)
    silent_gd = np.ones((30, 3))
    silent_gd[20:] = 0
    assert (unit_length(silent_gd)[20:] == 0).all()
    assert function_auroc(unit_length(silent_gd), [np.arange(20)])[0] == pytest.approx(1)


def test_matching_on_level_takes_up_what_comes_of_the_level_alone():
    level_g = np.linspace(0, 1, 1000)
    embedding_gd = np.column_stack([level_g - 0.5, 0.3 * embeddings(1000, 2)])
    members = [np.random.default_rng(i).choice(200, 30, replace=False) for i in range(20)]
    observed = function_auroc(unit_length(embedding_gd), members).mean()
    free = permutation_null(unit_length(embedding_gd), members, permutations=5)
    matched = permutation_null(unit_length(embedding_gd), members, permutations=5, level_g=level_g)
    assert observed > 0.65
    assert free.mean() == pytest.approx(0.5, abs=0.05)
    assert matched.mean() == pytest.approx(observed, abs=0.03)


def test_matched_auroc_agrees_with_its_definition():
    """Compare each member with the genes of its own level, in twenty classes of fifteen."""
    random = np.random.default_rng(3)
    embedding_gd, level_g = embeddings(300, 4), random.random(300)
    sets = {f"set {i}": random.choice(300, random.integers(5, 40), replace=False) for i in range(6)}
    length_g = np.linalg.norm(embedding_gd, axis=1)
    cosine_gg = embedding_gd @ embedding_gd.T / np.outer(length_g, length_g)
    class_g = np.argsort(np.argsort(level_g)) // 15
    table = function_table(unit_length(embedding_gd), sets, level_g)
    for name, genes in sets.items():
        score_g = [cosine_gg[i, [m for m in genes if m != i]].mean() for i in range(300)]
        shares = []
        for member in genes:
            others = [i for i in range(300) if class_g[i] == class_g[member] and i not in genes]
            shares.append(np.mean([score_g[member] > score_g[i] for i in others]))
        assert table.loc[name, "matched"] == pytest.approx(np.mean(shares), abs=1e-6)


def test_the_null_is_seeded():
    unit_gd, members = unit_length(embeddings()), list(random_sets(3).values())
    first = permutation_null(unit_gd, members, permutations=2, seed=5)
    np.testing.assert_array_equal(first, permutation_null(unit_gd, members, permutations=2, seed=5))
    assert (first != permutation_null(unit_gd, members, permutations=2, seed=6)).any()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no gene sets"),
        (b"A\tdescription\tTP53\nB description TP53\n", "line 2: a GMT line is name, description and genes"),
        (b"A\tdescription\n", "line 1"),
        (b"A\t\tTP53\nA\t\tMYC\n", "line 2: the name 'A' occurs twice"),
        (b"\x1f\x8b\x08\x00\xff\xfe", "not text"),
    ],
)
def test_broken_gmt_files_are_refused_with_their_line(tmp_path, content, message):
    path = tmp_path / "broken.gmt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_gmt(path)


def test_a_missing_gmt_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.gmt"):
        read_gmt(tmp_path / "nowhere.gmt")


def test_sets_are_matched_by_name_and_filtered_by_size():
    genes = ["MYC", "ALB", "TP53", "MYC", "ACTB"]
    sets = {"small": ["ALB", "other"], "right": ["MYC", "TP53", "MYC", "other"], "large": genes}
    found = match(sets, genes, smallest=2, largest=3)
    assert list(found) == ["right"]
    np.testing.assert_array_equal(found["right"], [0, 2, 3])
    with pytest.raises(DataError, match="no gene set has 10 to 200 of the model's 5 genes"):
        match(sets, genes)


@pytest.mark.real
def test_pca_loadings_on_gtex_v6_meet_the_known_figures():
    data_path = shared_dir() / "gtex_v6" / "gtex_v6.h5ad"
    sets_path = shared_dir() / "genesets" / "h.all.v2023.2.Hs.symbols.gmt"
    if not data_path.is_file() or not sets_path.is_file():
        pytest.skip(f"no {data_path} or {sets_path}: set GTEX_VAE_SHARED to the folder of the real data")
    import anndata

    from gtex_vae.models.pca import PCA

    data = anndata.read_h5ad(data_path)
    x_ng = data.X[data.X.any(axis=1)]
    x_ng = ((x_ng - x_ng.mean(axis=0)) / np.maximum(x_ng.std(axis=0), 0.05)).astype(np.float32)
    sets = match(read_gmt(sets_path), data.var["gene_name"].astype(str))
    loadings_gd = PCA.fit(x_ng, 64).components_dg.T
    assert function_table(unit_length(loadings_gd), sets)["auroc"].mean() == pytest.approx(0.793, abs=0.01)
    assert function_table(unit_length(x_ng.T), sets)["auroc"].mean() == pytest.approx(0.713, abs=0.01)
