"""Synthetic samples of a run, and the description of their audit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from gtex_vae.analysis.synthetic.synthesis import sentence, synthesize
from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import ConfigError
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.vae import VAE


def test_words_of_the_audit():
    good = {"mmd2": 0.001, "mmd2_of_halves": 0.01, "too_near": 0.04, "tissue_accuracy": 0.8,
            "baseline/training/tissue_accuracy": 0.9}  # fmt: skip
    assert sentence(good).endswith("no copies") and "at most 0.0100" in sentence(good)
    assert sentence({**good, "too_near": 0.9}).endswith("copies") and "no copies" not in sentence(
        {**good, "too_near": 0.9}
    )
    assert "another distribution" in sentence({**good, "mmd2": 0.02})
    assert sentence({**good, "mmd2_of_halves": float("nan")}).startswith(
        "squared MMD 0.0010, no reference: too few held-out"
    )


def test_tissues_are_not_drawn_where_no_sample_has_one():
    model = TrainedModel(VAE(2, 1, [4]), Standardizer(2), gene_ids=["a", "b"], gene_names=["", ""],
                         unit="log2(TPM+1)", architecture={})  # fmt: skip
    samples = AnnData(
        np.zeros((3, 2), np.float32), obs=pd.DataFrame({"split": "train", "tissue": [None] * 3})
    )
    with pytest.raises(ConfigError, match=r"how=tissue: no training sample has a tissue; use how=prior"):
        synthesize(model, samples, how="tissue", n_samples=4)
