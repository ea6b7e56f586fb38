"""Gene embeddings: invariances, their files, and neighbours without the matrix of all pairs."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch

from gtex_vae.analysis.genes.embedding import (
    _scatter_root,
    decoder_jacobian,
    gene_embedding,
    model_embeddings,
    output_weights,
    whiten,
)
from gtex_vae.analysis.genes.embedding_file import (
    choose,
    neighbour_table,
    read_gene_embeddings,
    write_gene_embeddings,
)
from gtex_vae.analysis.genes.neighbours import cosine_neighbours
from gtex_vae.errors import ConfigError, DataError, RunError
from gtex_vae.models.vae import VAE


@pytest.mark.parametrize("n_components", [None, 12])
@pytest.mark.parametrize("linear_skip", [True, False])
def test_output_weights_keep_inner_products_of_the_whole_last_layer(n_components, linear_skip):
    """Each column is the change of the model's mean with one hidden unit of one ensemble member."""
    torch.manual_seed(0)
    vae = VAE(30, 4, [9, 16], n_components=n_components, n_members=3, linear_skip=linear_skip).eval()
    if n_components is not None:
        vae.basis_fg.copy_(torch.linalg.qr(torch.randn(30, 12))[0].T)
    columns = []
    for decoder in vae.decoders:
        columns += [vae.expand(unit[None])[0] / 3 for unit in decoder.out.weight.detach().T]
    if linear_skip:
        together = sum(decoder.skip.weight.detach() for decoder in vae.decoders) / 3
        columns += [vae.expand(unit[None])[0] for unit in together.T]
    whole_gh = torch.stack(columns, dim=1).numpy()
    weights_gf = output_weights(vae)
    assert weights_gf.shape[0] == 30
    assert weights_gf.shape[1] <= whole_gh.shape[1]
    np.testing.assert_allclose(weights_gf @ weights_gf.T, whole_gh @ whole_gh.T, atol=1e-4)


@pytest.mark.parametrize(
    ("hidden_dims", "norm", "n_covariates"), [([9, 7], "batch", 0), ([], "none", 0), ([8], "layer", 3)]
)
def test_jacobian_is_that_of_automatic_differentiation(hidden_dims, norm, n_covariates):
    torch.manual_seed(0)
    vae = VAE(30, 5, hidden_dims, norm=norm, n_components=12, n_members=2, n_covariates=n_covariates).eval()
    vae.basis_fg.copy_(torch.linalg.qr(torch.randn(30, 12))[0].T)
    z_nd = torch.randn(20, 5)
    whole_gnd = torch.autograd.functional.jacobian(lambda z: vae.decode(z).sum(0), z_nd)
    np.testing.assert_allclose(decoder_jacobian(vae, z_nd.numpy()), whole_gnd.mean(1), atol=1e-5)


def test_whitening_is_that_of_the_singular_values():
    loadings_gf = np.random.default_rng(0).normal(size=(50, 8)) * np.linspace(1, 5, 8) + 3.0
    left, singular, _ = np.linalg.svd(loadings_gf - loadings_gf.mean(0), full_matrices=False)
    expected_gd = left[:, :5] * singular[:5] ** 0.25
    found_gd = whiten(loadings_gf, 5)
    np.testing.assert_allclose(found_gd @ found_gd.T, expected_gd @ expected_gd.T, atol=1e-5)
    assert np.isfinite(whiten(np.zeros((5, 3)), 3)).all()


def test_linear_decoders_have_the_same_genes_in_both_embeddings():
    """With zero MLPs the decoder is its linear path, so the Jacobian and the last layer give the same embedding.

    Up to the scatter around neighbours, which is about a sphere where samples come from one.
    """
    torch.manual_seed(0)
    vae = VAE(40, 3, [8], linear_skip=True).eval()
    torch.nn.init.zeros_(vae.decoders[0].out.weight)
    z_nd = np.random.default_rng(0).normal(size=(4000, 3)).astype(np.float32)
    found = model_embeddings(vae, decoder_jacobian(vae, z_nd), z_nd)
    assert {name: x_gd.shape for name, x_gd in found.items()} == {
        "decoder_loadings": (40, 3),
        "output_weights": (40, 3),
    }
    cosines = []
    for x_gd in found.values():
        unit_gd = x_gd / np.linalg.norm(x_gd, axis=1, keepdims=True)
        cosines.append((unit_gd @ unit_gd.T)[np.triu_indices(40, 1)])
    assert np.corrcoef(cosines)[0, 1] > 0.999


def test_the_choice_of_latent_axes_does_not_matter():
    random = np.random.default_rng(0)
    jacobian_gd, z_nd = random.normal(size=(50, 4)), random.normal(size=(300, 4)) ** 3
    turn_dd = np.linalg.qr(random.normal(size=(4, 4)))[0]
    before_gd = gene_embedding(jacobian_gd, z_nd)
    after_gd = gene_embedding(jacobian_gd @ turn_dd, z_nd @ turn_dd)
    np.testing.assert_allclose(after_gd @ after_gd.T, before_gd @ before_gd.T, atol=1e-3)


def test_scatter_root_makes_the_scatter_around_neighbours_the_identity():
    from sklearn.neighbors import NearestNeighbors

    random = np.random.default_rng(0)
    z_gd = random.normal(size=(400, 3)) @ random.normal(size=(3, 3)) + 5.0
    found_gd = np.linalg.solve(_scatter_root(z_gd), z_gd.T).T
    near = NearestNeighbors(n_neighbors=5).fit(z_gd).kneighbors(return_distance=False)
    np.testing.assert_allclose(np.cov(found_gd - found_gd[near].mean(1), rowvar=False), np.eye(3), atol=1e-4)


def test_files_hold_every_embedding_by_its_name(tmp_path):
    random = np.random.default_rng(0)
    genes = pd.DataFrame(
        {"gene_name": [f"SYM{i}" for i in range(20)], "level": random.random(20)},
        index=[f"ENSG{i:011d}" for i in range(20)],
    )
    embeddings = {
        name: random.normal(size=(20, d)).astype(np.float32)
        for name, d in (("decoder_loadings", 4), ("output_weights", 6))
    }
    with pytest.raises(RunError, match=r"gtex_vae\.evaluate"):
        read_gene_embeddings(tmp_path)
    write_gene_embeddings(tmp_path, embeddings, genes)
    adata = read_gene_embeddings(tmp_path)
    table = pd.read_parquet(tmp_path / "gene_embeddings.parquet")
    assert list(table.index) == list(genes.index)
    for name, x_gd in embeddings.items():
        np.testing.assert_array_equal(choose(adata, name), x_gd)
        columns = [f"{name}_{d}" for d in range(x_gd.shape[1])]
        np.testing.assert_array_equal(table[columns].to_numpy(), x_gd)
    np.testing.assert_array_equal(choose(adata, None), embeddings["decoder_loadings"])
    with pytest.raises(ConfigError, match="did you mean 'output_weights'"):
        choose(adata, "output_weight")

    found = neighbour_table(adata, ["sym3", "ENSG00000000007"], k=5, embedding="output_weights")
    assert found["gene_name"].tolist() == ["SYM3"] * 5 + ["SYM7"] * 5
    index_gk, _ = cosine_neighbours(embeddings["output_weights"], 5)
    assert found["neighbour_id"].tolist() == genes.index[index_gk[[3, 7]].ravel()].tolist()
    with pytest.raises(DataError, match="SYM77 is not a gene of this run; did you mean 'sym7'"):
        neighbour_table(adata, ["SYM77"])


def test_similarities_of_all_pairs_are_never_held():
    embedding_gd = np.random.default_rng(0).normal(size=(6000, 8)).astype(np.float32)
    tracemalloc.start()
    try:
        cosine_neighbours(embedding_gd, 5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6000 * 6000 * 4 / 4  # a quarter of them
