"""R2 by gene and tissue, and the predictions that evaluate leaves for analyze."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gtex_vae.analysis.evaluation.by_gene_and_tissue import by_gene_and_tissue
from gtex_vae.analysis.evaluation.run_predictions import FILE, RunPredictions


class Half:
    """Predicts half of what it sees."""

    def reconstruct(self, x_ng, observed_ng=None):
        return 0.5 * x_ng


def test_r2_by_gene_and_tissue_in_closed_form():
    x_ng = np.array([[1, 2], [-1, -2], [2, 0], [0, 0]], dtype=np.float32)
    tissue = pd.Series(["a", "a", "b", None])
    genes, tissues = by_gene_and_tissue({"half": Half()}, x_ng, tissue)
    np.testing.assert_allclose(genes["r2_half"], [1 - 1.5 / 5, 0.75])
    assert tissues.index.tolist() == ["a", "b"]
    assert tissues["samples"].tolist() == [2, 1]
    np.testing.assert_allclose(tissues["r2_half"], [0.75, 0.5])
    hidden = genes["imputation_half"].dropna()
    np.testing.assert_allclose(hidden, 0.0)  # hidden entries are not given to the method


def test_saved_predictions_are_read_for_the_same_model_and_samples_only(tmp_path):
    x_ng = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    tables = by_gene_and_tissue({"model": Half(), "pca": Half()}, x_ng, pd.Series(list("aabbcc")))
    saved = RunPredictions(x_ng[:, :2], np.array([0.5, 1.0]), *tables)
    samples, key = list("uvwxyz"), {"model_sha256": "1", "seed": 0}
    saved.save(tmp_path, samples, key)
    read = RunPredictions.load(tmp_path, samples, key)
    assert read is not None
    np.testing.assert_array_equal(read.z_nd, saved.z_nd)
    np.testing.assert_array_equal(read.kl_d, saved.kl_d)
    pd.testing.assert_frame_equal(read.genes, saved.genes)
    pd.testing.assert_frame_equal(read.tissues, saved.tissues)
    assert RunPredictions.load(tmp_path, samples, {**key, "seed": 1}) is None
    assert RunPredictions.load(tmp_path, samples[::-1], key) is None
    (tmp_path / FILE).write_bytes(b"PK half")
    assert RunPredictions.load(tmp_path, samples, key) is None
