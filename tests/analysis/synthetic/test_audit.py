"""Audit of synthetic samples."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gtex_vae.analysis.synthetic.audit import (
    REAL,
    Kernel,
    Neighbourhood,
    Profiles,
    audit,
    correlations,
    squared_distances,
)


def real_samples(n_donors: int, seed: int) -> tuple[Profiles, pd.Series]:
    """Draw samples of correlated genes, with three tissues and a random shift per donor."""
    shared, random = np.random.default_rng(1), np.random.default_rng(seed)
    loading_fg, centre_tg = shared.normal(size=(4, 60)), shared.normal(size=(3, 60)) * 2
    donor_n, tissue_n = np.repeat(np.arange(n_donors), 3), np.tile(np.arange(3), n_donors)
    x_ng = centre_tg[tissue_n] + random.normal(size=(n_donors, 60))[donor_n] * 0.5
    x_ng += random.normal(size=(len(donor_n), 4)) @ loading_fg + random.normal(size=x_ng.shape) * 0.3
    x_ng = x_ng.astype(np.float32)
    tissues, donors = (
        pd.Series(tissue_n.astype(str), dtype=object),
        pd.Series([f"{seed}_{d}" for d in donor_n]),
    )
    return Profiles(x_ng, tissues), donors


def test_the_audit_tells_real_samples_copies_and_wrong_distributions_apart():
    train, train_donors = real_samples(120, 2)
    held_out, held_out_donors = real_samples(60, 3)
    others, _ = real_samples(120, 4)
    random = np.random.default_rng(0)
    shuffled_ng = np.stack([random.permutation(gene_n) for gene_n in train.x_ng.T], axis=1)
    generated = {
        "others": others,
        "copies": Profiles(train.x_ng + np.float32(0.01), train.tissue),
        "shuffled": Profiles(shuffled_ng, pd.Series([None] * len(shuffled_ng))),
        "narrow": Profiles(train.x_ng * np.float32(0.5), train.tissue),
    }
    table, halves = audit(generated, train, train_donors, held_out, held_out_donors)
    assert list(table.index) == [*generated, REAL]
    for good in ("others", REAL):
        row = table.loc[good]
        assert row["mmd2"] < halves
        assert row["variance"] == pytest.approx(1.0, abs=0.2)
        assert row["correlation"] > 0.9 and row["correlation_within_tissues"] > 0.9
        assert row["tissue_accuracy"] > 0.9
        assert row["nearest"] == pytest.approx(1.0, abs=0.15) and row["too_near"] < 0.15
    assert table.loc["copies", "too_near"] == 1.0 and table.loc["copies", "nearest"] < 0.2
    assert table.loc["shuffled", "mmd2"] > halves
    assert abs(table.loc["shuffled", "correlation"]) < 0.2
    assert np.isnan(table.loc["shuffled", "tissue_accuracy"])
    assert np.isnan(table.loc["shuffled", "correlation_within_tissues"])
    assert table.loc["narrow", "mmd2"] > halves and table.loc["narrow", "variance"] < 0.4


def test_a_donors_own_samples_do_not_make_its_other_sample_a_copy():
    train, donors = real_samples(40, 2)
    twins = Profiles(np.repeat(train.x_ng, 2, axis=0), train.tissue)
    near = Neighbourhood.fit(twins.x_ng, donors.repeat(2), real_samples(40, 3)[0].x_ng)
    assert near.of(twins.x_ng)["too_near"] == 1.0
    assert near.of(twins.x_ng, donors.repeat(2))["too_near"] < 0.3


def test_discrepancy_and_distances_are_what_they_say():
    random = np.random.default_rng(0)
    x_nf, y_mf = random.normal(size=(7, 3)).astype("f4"), random.normal(size=(9, 3)).astype("f4")
    expected_nm = np.square(x_nf[:, None] - y_mf[None]).sum(2)
    np.testing.assert_allclose(squared_distances(x_nf, y_mf), expected_nm, rtol=1e-4, atol=1e-5)
    kernel = Kernel.fit(y_mf, random)
    pairs = list(np.square(y_mf[:, None] - y_mf[None]).sum(2)[np.triu_indices(9, 1)])
    assert kernel.width == pytest.approx(2 * np.median(pairs), rel=1e-4)
    k = lambda a, b: np.exp(-np.square(a - b).sum() / kernel.width)  # noqa: E731
    within_x = np.mean([k(a, b) for i, a in enumerate(x_nf) for j, b in enumerate(x_nf) if i != j])
    within_y = np.mean([k(a, b) for i, a in enumerate(y_mf) for j, b in enumerate(y_mf) if i != j])
    across = np.mean([k(a, b) for a in x_nf for b in y_mf])
    assert kernel.discrepancy(x_nf) == pytest.approx(within_x + within_y - 2 * across, abs=1e-5)
    upper = np.triu_indices(3, 1)
    np.testing.assert_allclose(correlations(x_nf), np.corrcoef(x_nf.T)[upper], atol=1e-5)
