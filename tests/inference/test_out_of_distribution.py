"""The out-of-distribution score: calibrated on donors never seen, and it tells other worlds apart."""

from __future__ import annotations

import gzip

import anndata
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from gtex_vae.analysis.evaluation.missing_genes import EmbedderOnPresentGenes
from gtex_vae.data.readers.backed import open_matrix
from gtex_vae.data.simulate.bulk import simulate_gtex
from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import RunError
from gtex_vae.inference import out_of_distribution
from gtex_vae.inference.calibration import FILE, Calibration, residuals
from gtex_vae.inference.model_input import ModelInput, wanted_genes
from gtex_vae.inference.out_of_distribution import VERDICTS, SeenSamples, misfit, sentence, summary
from gtex_vae.models.pca import PCA
from gtex_vae.paths import shared_dir

GENES = 250


class World:
    """Simulated donors in three parts, in units of the first, and a PCA for a model."""

    def __init__(self, **how) -> None:
        adata = simulate_gtex(n_samples=1200, n_genes=GENES, seed=0, **how)
        donor = adata.obs["donor"].astype(str).to_numpy()
        names = np.random.default_rng(0).permutation(np.unique(donor))
        part_of = dict(zip(names, np.arange(len(names)) * 4 // len(names), strict=True))
        part = np.array([part_of[name] for name in donor])
        self.x_ng = np.asarray(adata.X)
        train_ng = self.x_ng[part <= 1]
        self.mean_g, self.sd_g = train_ng.mean(0), train_ng.std(0) + 0.05
        self.train_ng, self.valid_ng = self.standard(train_ng), self.standard(self.x_ng[part == 2])
        self.test = self.x_ng[part == 3]
        self.test_ng = self.standard(self.test)
        self.donors = donor[part == 2]
        self.model = PCA.fit(self.train_ng, 16)
        reference = Calibration.fit(self.model, self.train_ng, self.valid_ng, self.donors)
        assert reference is not None
        self.reference = reference

    def standard(self, x_ng: np.ndarray) -> np.ndarray:
        return ((x_ng - self.mean_g) / self.sd_g).astype(np.float32)

    def auroc(self, other_ng: np.ndarray) -> float:
        scores = [
            self.reference.score_samples(self.model, x_ng)["score"] for x_ng in (self.test_ng, other_ng)
        ]
        return roc_auc_score(np.repeat([0, 1], [len(part) for part in scores]), np.concatenate(scores))


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def others(world: World) -> dict[str, np.ndarray]:
    """What the model has not seen."""
    rng = np.random.default_rng(1)
    test = world.test
    return {
        "shuffled": rng.permuted(test, axis=1),
        "another world": np.asarray(simulate_gtex(n_samples=200, n_genes=GENES, seed=7).X),
        "another lab": np.maximum(test + rng.normal(0, 1.0, GENES), 0),
        "noise": np.maximum(test + rng.normal(0, 1.0, test.shape), 0),
        "another unit": test + 1,
        "averages": np.stack([test[rng.permutation(len(test))[:30]].mean(0) for _ in range(50)]),
    }


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("shuffled", 0.95),
        ("another world", 0.95),
        ("another lab", 0.95),
        ("noise", 0.95),
        ("averages", 0.95),
        ("another unit", 0.9),  # the weakest of them: 0.925 when this was written
    ],
)
def test_tells_what_the_model_has_not_seen_from_held_out_donors(world, kind, least):
    assert world.auroc(world.standard(others(world)[kind])) >= least


def test_verdicts_on_held_out_donors_are_as_rare_as_they_say(world):
    judged = world.reference.score_samples(world.model, world.test_ng)
    known = world.model.embed(world.test_ng), world.test_ng, world.model.reconstruct(world.test_ng)
    pd.testing.assert_frame_equal(world.reference.score_encoded(*known), judged)
    assert 0.88 < (judged["verdict"] == VERDICTS[0]).mean() < 0.99
    assert (judged["verdict"] == VERDICTS[2]).mean() < 0.03
    assert ((judged["score"] > 1) == (judged["verdict"] != VERDICTS[0])).all()
    # among the validation donors themselves they are exact
    own = world.reference.seen.score_v
    assert np.quantile(own, 0.95) < np.quantile(own, 0.995)


def test_a_sample_s_score_depends_on_no_other_and_on_no_batch(world):
    whole = world.reference.score_samples(world.model, world.test_ng)
    parts = world.reference.score_samples(world.model, world.test_ng, batch_size=7)
    np.testing.assert_allclose(whole["score"], parts["score"], rtol=1e-3)


def test_genes_that_are_missing_do_not_make_a_sample_odd(world):
    present_g = np.random.default_rng(2).random(GENES) < 0.7
    shown_ng = np.where(present_g, world.test_ng, 9.0).astype(np.float32)
    judged = world.reference.score_samples(world.model, shown_ng, present_g)
    assert (judged["verdict"] == VERDICTS[2]).mean() < 0.05
    hidden_ng = np.where(present_g, world.test_ng, -5.0).astype(np.float32)
    again = world.reference.score_samples(world.model, hidden_ng, present_g)
    np.testing.assert_allclose(judged["score"], again["score"], rtol=1e-4)


def test_a_reference_of_the_genes_that_there_are_is_calibrated_for_them(world):
    present_g = np.arange(GENES) < 60
    model = EmbedderOnPresentGenes(world.model, present_g)
    reference = Calibration.fit(model, world.train_ng, world.valid_ng[:, present_g], world.donors)
    assert reference is not None
    judged = reference.score_samples(model, world.test_ng[:, present_g])
    assert (judged["verdict"] == VERDICTS[0]).mean() > 0.85


def test_what_was_kept_judges_alike(world, tmp_path):
    assert Calibration.load(tmp_path) is None
    world.reference.save(tmp_path)
    kept = Calibration.load(tmp_path)
    assert kept is not None
    pd.testing.assert_frame_equal(
        kept.score_samples(world.model, world.test_ng),
        world.reference.score_samples(world.model, world.test_ng),
    )
    (tmp_path / FILE).write_bytes(b"half")
    with pytest.raises(RunError, match="delete it"):
        Calibration.load(tmp_path)


def test_too_few_samples_give_no_reference(world):
    assert Calibration.fit(world.model, world.train_ng, world.valid_ng[:5], world.donors[:5]) is None


def test_misfit_counts_in_units_of_each_gene_and_one_gene_does_not_decide():
    rms_g = np.array([1.0, 4.0])
    assert misfit(np.array([[1.0, 4.0]]), rms_g) == pytest.approx(0.0, abs=1e-6)
    assert misfit(np.array([[0.0, 8.0]]), rms_g) == pytest.approx(np.log(2.0))
    assert misfit(np.array([[1.0, 4e9]]), rms_g) == pytest.approx(np.log((1 + 25) / 2))
    many_ng = np.ones((2, 4000))
    many_ng[1, 0] = 1e9
    assert np.diff(misfit(many_ng, np.ones(4000))) == pytest.approx(np.log(1.1), rel=1e-2)


def test_many_dimensions_are_cut_to_the_leading_ones(monkeypatch):
    monkeypatch.setattr("gtex_vae.inference.out_of_distribution.COMPONENTS", 3)
    rng = np.random.default_rng(0)
    z_nd = rng.normal(size=(60, 9)) * np.arange(9, 0, -1)
    seen = SeenSamples.fit(z_nd, z_nd[:20], rng.normal(size=(20, 5)), np.arange(20))
    assert seen.train_mk.shape == (60, 3)
    assert len(seen.score_samples(z_nd[:4], rng.normal(size=(4, 5)))) == 4


def test_calibrating_in_blocks_changes_no_score(monkeypatch):
    rng = np.random.default_rng(0)
    z_train_md, z_valid_vd = rng.standard_normal((60, 4)), rng.standard_normal((50, 4))
    taken = z_train_md, z_valid_vd, rng.standard_normal((50, 20)), rng.integers(0, 9, 50)
    whole = SeenSamples.fit(*taken)
    monkeypatch.setattr(out_of_distribution, "BLOCK", 7)
    np.testing.assert_allclose(SeenSamples.fit(*taken).score_v, whole.score_v, rtol=1e-5)


def test_a_single_donor_is_compared_with_itself():
    rng = np.random.default_rng(0)
    z_nd = rng.normal(size=(30, 4))
    seen = SeenSamples.fit(z_nd, z_nd, rng.normal(size=(30, 5)), ["one"] * 30)
    assert np.isfinite(seen.score_v).all()


@pytest.mark.parametrize(
    ("counts", "start"),
    [
        (
            (99, 1, 0),
            "the samples are well inside what the model has seen (99 of 100; 1 at the edge, 0 outside)",
        ),
        ((60, 38, 2), "many samples are at the edge"),
        ((60, 10, 30), "30 of 100 samples (30 %) are outside what the model has seen: look at them"),
        ((0, 0, 100), "100 of 100 samples (100 %) are outside what the model has seen: do not rely"),
    ],
)
def test_sentence_and_counts(counts, start):
    verdicts = pd.Series(np.repeat(VERDICTS, counts))
    assert sentence(verdicts).startswith(start)
    found = summary(pd.DataFrame({"verdict": verdicts, "score": 1.0}))
    assert tuple(found.values()) == (*counts, 1.0)


@pytest.mark.real
def test_real_monocytes_are_outside_and_real_donors_inside(tmp_path):
    """GTEx v6 with a PCA for a model; single-cell pseudobulk of another study."""
    if not (shared_dir() / "gtex_v6" / "gtex_v6.h5ad").exists():
        pytest.skip("no shared GTEx v6 extract")
    adata = anndata.read_h5ad(shared_dir() / "gtex_v6" / "gtex_v6.h5ad", backed="r")
    donor = adata.obs["donor"].astype(str).to_numpy()
    names = np.random.default_rng(0).permutation(np.unique(donor))[:160]
    part_of = dict(zip(names, np.arange(160) // 40, strict=True))
    part = np.array([part_of.get(name, -1) for name in donor])
    x_ng = np.asarray(adata[part >= 0].X[:], dtype=np.float32)
    part, donor = part[part >= 0], donor[part >= 0]
    scaler = Standardizer(x_ng.shape[1]).fit(x_ng, np.flatnonzero(part <= 1))
    scaler.apply_(x_ng)
    with gzip.open(shared_dir() / "onek1k" / "n94_CD14_positive_monocyte.bed.gz", "rt") as bed:
        cells = pd.read_csv(bed, sep="\t", index_col=3).iloc[:, 3:].T
    cells.to_csv(tmp_path / "monocytes.csv")
    ids, names_g = list(adata.var_names), list(adata.var["gene_name"].astype(str))
    with open_matrix(tmp_path / "monocytes.csv", keep_gene=wanted_genes(ids, names_g)) as matrix:
        center_g = scaler.center_g.numpy()
        data = ModelInput(matrix, gene_ids=ids, gene_names=names_g, unit="log2(RPKM+1)", mean_g=center_g)
        ((_, cells_ng),) = data.blocks(100)
    pca = PCA.fit(x_ng[part <= 1], 32)
    seen = SeenSamples.fit(
        pca.embed(x_ng[part <= 1]),
        pca.embed(x_ng[part == 2]),
        residuals(pca, x_ng[part == 2]),
        donor[part == 2],
    )
    own, other = (
        seen.score_samples(pca.embed(x), residuals(pca, x), data.present_g)
        for x in (x_ng[part == 3], scaler.apply_(np.array(cells_ng)))
    )
    assert (other["verdict"] == VERDICTS[2]).all()
    assert (own["verdict"] == VERDICTS[0]).mean() > 0.85
