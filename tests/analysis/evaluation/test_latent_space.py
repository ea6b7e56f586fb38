"""Distances, clusters, traversals and information of a latent space."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from gtex_vae.analysis.evaluation.latent_space import known_factors, latent_tables
from gtex_vae.analysis.evaluation.traversal import traversals
from gtex_vae.analysis.metrics.clustering import clustering
from gtex_vae.analysis.metrics.distances import distance_metrics, pairwise_distances
from gtex_vae.data.standardize import Standardizer
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.vae import VAE

G, D = 30, 4


@pytest.fixture(scope="module")
def linear() -> TrainedModel:
    """A model whose decoder is a matrix."""
    torch.manual_seed(0)
    architecture = {"latent_dim": D, "hidden_dims": []}
    scaler = Standardizer(G)
    scaler.scale_g.copy_(torch.linspace(1, 2, G))
    return TrainedModel(
        VAE(G, **architecture), scaler, gene_ids=[f"g{i}" for i in range(G)],
        gene_names=[f"G{i}" for i in range(G)], unit="log2(TPM+1)", architecture=architecture,
    )  # fmt: skip


@pytest.fixture(scope="module")
def cohort() -> tuple[np.ndarray, pd.DataFrame]:
    """Four far tissues along two dimensions, and donors that differ along a third."""
    rng = np.random.default_rng(0)
    tissue, donor = np.arange(400) % 4, np.arange(400) // 4
    z_nd = rng.normal(0, 0.3, (400, D))
    z_nd[:, 0] += 10 * (tissue // 2)
    z_nd[:, 1] += 10 * (tissue % 2)
    z_nd[:, 2] += np.repeat(rng.normal(0, 3, 100), 4)
    obs = pd.DataFrame({"tissue": tissue.astype(str), "donor": donor.astype(str), "rin": z_nd[:, 3]})
    return z_nd.astype(np.float32), obs


def test_distances_tell_tissues_and_donors(cohort):
    z_nd, obs = cohort
    table = pairwise_distances(z_nd, obs["tissue"], obs["donor"])
    assert table["pairs"].sum() == 400 * 399 // 2
    assert "same tissue, same donor" not in table.index
    found = distance_metrics(table)
    assert found["latent/distance_ratio_tissue"] > 2
    assert 1.0 < found["latent/distance_ratio_donor"] < found["latent/distance_ratio_tissue"]
    assert (table[["q05", "q25", "q50", "q75", "q95"]].diff(axis=1).iloc[:, 1:] >= 0).all().all()


def test_distances_do_not_change_under_rotation(cohort):
    z_nd, obs = cohort
    turn_dd = np.linalg.qr(np.random.default_rng(1).normal(size=(D, D)))[0]
    turned = pairwise_distances(z_nd @ turn_dd, obs["tissue"], obs["donor"])
    np.testing.assert_allclose(turned, pairwise_distances(z_nd, obs["tissue"], obs["donor"]), rtol=1e-5)


def test_without_labels_there_are_no_distances_and_no_failure():
    nothing = pd.Series([None] * 3, dtype=object)
    table = pairwise_distances(np.eye(3), nothing, nothing)
    assert table.empty
    assert all(np.isnan(value) for value in distance_metrics(table).values())


def test_clusters_find_the_tissues(cohort):
    z_nd, obs = cohort
    flat_nd = z_nd[:, [0, 1, 3]]
    table = clustering(flat_nd, obs["tissue"]).reset_index()
    tissue, kmeans = table[table["labels"] == "tissue"].iloc[0], table[table["labels"] == "kmeans"]
    assert kmeans["k"].tolist() == list(range(2, 11))
    best = kmeans.loc[kmeans["silhouette"].idxmax()]
    assert best["k"] == 4 and best["ari"] == best["nmi"] == 1
    assert best["silhouette"] == pytest.approx(tissue["silhouette"])
    assert best["calinski_harabasz"] == pytest.approx(tissue["calinski_harabasz"])
    assert (kmeans["inertia"].diff().dropna() < 0).all()


def test_clusters_without_tissues_are_scored_by_shape_alone():
    z_nd = np.random.default_rng(0).normal(size=(40, 3))
    table = clustering(z_nd, pd.Series([None] * 40, dtype=object)).reset_index()
    assert set(table["labels"]) == {"kmeans"}
    assert table["ari"].isna().all() and table["silhouette"].notna().all()


def test_traversal_of_a_linear_decoder_is_its_weights(linear, cohort):
    z_nd, _ = cohort
    table = traversals(linear, z_nd, np.arange(D))
    weight_gd = linear.vae.decode(torch.eye(D)) - linear.vae.decode(torch.zeros(1, D))
    for d in range(D):
        part = table.loc[f"z_{d}"]
        change_g = 4 * z_nd[:, d].std() * weight_gd[d].detach().numpy()
        order = np.argsort(-change_g)
        assert part["gene_id"].tolist() == [f"g{g}" for g in (*order[:10], *order[:-11:-1])]
        np.testing.assert_allclose(
            part["change"], np.sort(change_g)[[*range(-1, -11, -1), *range(10)]], rtol=1e-3
        )
        np.testing.assert_allclose(part["at_2"] - part["at_-2"], part["change"], rtol=1e-4, atol=1e-5)
        position = part["gene_id"].str[1:].astype(int).to_numpy()
        scale = linear.scaler.scale_g.numpy()[position]
        np.testing.assert_allclose(part["change_in_unit"], part["change"] * scale, rtol=1e-4)


def test_tables_name_the_dimension_that_knows(linear, cohort):
    z_nd, obs = cohort
    factors = pd.DataFrame(z_nd[:, ::-1].astype(float), columns=list("abcd"))
    found = latent_tables(linear, z_nd, obs, ("tissue", "donor", "rin", "absent"), factors=factors)
    assert set(found.tables) == {
        "latent_information", "latent_correlations", "distances", "clustering", "traversals"
    }  # fmt: skip
    information = found.tables["latent_information"]
    assert list(information) == ["variance", "tissue", "donor", "rin"]
    assert information["donor"].idxmax() == "z_2" and information["rin"].idxmax() == "z_3"
    assert set(information["tissue"].nlargest(2).index) == {"z_0", "z_1"}
    assert found.metrics["latent/mig"] > 0.5  # each factor is one dimension
    assert found.metrics["latent/dci_disentanglement"] > 0.9
    assert found.metrics["latent/mean_absolute_correlation"] < 0.1


def test_factors_are_known_of_simulated_samples_only():
    adata = anndata.AnnData(np.zeros((2, 3), np.float32))
    assert known_factors(adata) is None
    adata.obsm["truth_factors"] = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert known_factors(adata).to_dict("list") == {"factor_0": [1.0, 3.0], "factor_1": [2.0, 4.0]}
