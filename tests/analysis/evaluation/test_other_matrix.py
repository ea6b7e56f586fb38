"""Methods that have to do without some genes, and what is said of samples from elsewhere."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from gtex_vae.analysis.baselines import Mean
from gtex_vae.analysis.evaluation.missing_genes import on_present_genes
from gtex_vae.analysis.evaluation.other_matrix import complete_labels, warn_about_training_donors
from gtex_vae.analysis.evaluation.score import score_reconstruction
from gtex_vae.inference.predictors import Embedder
from gtex_vae.models.pca import PCA

PRESENT = np.array([True, False, True, True, True, False, True, True])


@pytest.fixture(scope="module")
def pca() -> PCA:
    rng = np.random.default_rng(0)
    return PCA.fit((rng.normal(size=(60, 2)) @ rng.normal(size=(2, 8))).astype(np.float32), 2)


@pytest.fixture(scope="module")
def x_ng(pca) -> np.ndarray:
    return np.asarray(pca.reconstruct(np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)))


def test_whole_samples_need_nothing(pca):
    assert on_present_genes(pca, np.ones(8, dtype=bool)) is pca


def test_missing_genes_are_predicted_and_present_ones_left_alone(pca, x_ng):
    method = on_present_genes(pca, PRESENT)
    assert isinstance(method, Embedder)
    # the data lies on the plane of the PCA, so that what is missing follows from the rest
    np.testing.assert_allclose(method.predict_missing(x_ng[:, PRESENT]), x_ng, atol=1e-2)
    np.testing.assert_array_equal(method.predict_missing(x_ng[:, PRESENT])[:, PRESENT], x_ng[:, PRESENT])
    np.testing.assert_allclose(method.embed(x_ng[:, PRESENT]), pca.embed(x_ng), atol=1e-2)
    np.testing.assert_array_equal(method.embed(x_ng), pca.embed(x_ng))


def test_hidden_entries_come_on_top_of_missing_genes(pca, x_ng):
    seen_np = np.random.default_rng(2).random((5, PRESENT.sum())) < 0.7
    observed_ng = np.zeros((5, 8), dtype=bool)
    observed_ng[:, PRESENT] = seen_np
    method = on_present_genes(pca, PRESENT)
    expected = pca.reconstruct(np.where(observed_ng, x_ng, 0).astype(np.float32), observed_ng)[:, PRESENT]
    found = method.reconstruct(np.where(seen_np, x_ng[:, PRESENT], 0).astype(np.float32), seen_np)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_does_not_embed_is_not_asked_to(x_ng):
    method = on_present_genes(Mean(), PRESENT)
    assert not isinstance(method, Embedder)
    found = score_reconstruction({"": method}, x_ng[:, PRESENT]).metrics
    assert found["imputation/r2_20"] == 0


def test_unknown_donors_are_donors_of_their_own():
    obs = pd.DataFrame({"donor": ["a", None]}, index=["s0", "s1"])
    filled = complete_labels(obs)
    assert filled["donor"].tolist() == ["a", "s1"]
    assert filled["tissue"].isna().all()
    assert complete_labels(obs[[]])["donor"].tolist() == ["s0", "s1"]


def test_samples_of_training_donors_and_unknown_tissues_are_said(caplog):
    train = pd.DataFrame({"donor": ["a", "b"], "tissue": ["lung", "skin"]}, index=["s0", "s1"])
    obs = pd.DataFrame(
        {"donor": ["b", "c", "s0"], "tissue": ["liver", "heart", None]}, index=["x", "y", "s0"]
    )
    with caplog.at_level(logging.WARNING):
        assert warn_about_training_donors(obs, train, {"lung", "skin"}) == 2
    assert "2 of 3 samples are of donors that the model was trained on" in caplog.text
    assert "no tissue of the matrix (heart, liver, ...)" in caplog.text
    caplog.clear()
    assert warn_about_training_donors(obs.iloc[[1]].assign(tissue="skin"), train, {"lung", "skin"}) == 0
    assert not caplog.text
