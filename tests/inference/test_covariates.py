"""Covariates as a design, a conditional VAE that takes them, and a latent that is freed of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from gtex_vae.data.covariates import Covariates
from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import ConfigError
from gtex_vae.functional.within_groups import effects_within
from gtex_vae.inference.covariates import covariates_of
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.conditioning import free_latent, guesses, start_conditional
from gtex_vae.models.vae import VAE

N, G = 240, 12


@pytest.fixture
def obs() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "rin": rng.normal(7.0, 1.0, N),
            "age": rng.choice(["20-29", "50-59", "60-69"], N),
            "sex": rng.choice(["M", "F"], N),
            "batch": rng.choice(["A", "B", "C"], N, p=[0.5, 0.3, 0.2]),
            "tissue": rng.choice(["lung", "liver"], N),
        }
    )


def test_the_design_has_mean_0_and_a_column_for_unknown(obs):
    obs.loc[::7, "batch"] = None
    covariates = Covariates.fit(obs, ["rin", "age", "sex", "batch"])
    design_nk = covariates.design(obs)
    assert covariates.widths == [2, 2, 3, 4]
    known = np.ones(11, dtype=bool)
    known[-1] = False  # the share of unknown batches
    np.testing.assert_allclose(design_nk[:, known].mean(0), 0.0, atol=1e-6)
    np.testing.assert_allclose(design_nk[:, [0, 2]].std(0), 1.0, atol=1e-5)
    assert (design_nk[::7, -1] == 1.0).all()
    assert (design_nk[::7, -4:-1] == 0.0).all()


def test_new_data_may_lack_columns_and_have_other_classes_and_spellings(obs):
    covariates = Covariates.fit(obs, ["rin", "age", "sex", "batch"])
    again = Covariates(json.loads(json.dumps(covariates.columns)))
    assert (again.design(obs) == covariates.design(obs)).all()
    assert (covariates.design(obs[[]]) == covariates.unknown_k).all()
    other = obs.assign(batch="never seen", sex=obs["sex"].map({"M": 1, "F": 2}), age=54.5)
    mixed = covariates.design(other)
    np.testing.assert_array_equal(mixed[:, 4:7], covariates.design(obs)[:, 4:7])
    assert (mixed[:, -1] == 1.0).all()
    fifties = (obs["age"] == "50-59").to_numpy()
    np.testing.assert_array_equal(mixed[fifties, 2], covariates.design(obs)[fifties, 2])
    hardy = pd.DataFrame({"hardy": [0.0, 1.0, 1.0, np.nan]})
    of_hardy = Covariates.fit(hardy, ["hardy"])
    np.testing.assert_array_equal(
        of_hardy.design(hardy), of_hardy.design(pd.DataFrame({"hardy": ["0", "1", "1", None]}))
    )
    as_text = covariates.design(obs.assign(rin=obs["rin"].astype(str)))
    np.testing.assert_allclose(as_text[:, 0], covariates.design(obs)[:, 0], rtol=1e-5)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("rni", None, "data.covariates: the annotations have no column 'rni'; did you mean 'rin'"),
        ("one", "same", r"data.covariates=\['one'\]: none of these columns varies"),
        ("id", [f"s{i}" for i in range(N)], "data.covariates=id has 240 classes for 240 samples"),
    ],
)
def test_columns_that_cannot_condition_are_refused(obs, column, values, message):
    if values is not None:
        obs[column] = values
    with pytest.raises(ConfigError, match=message):
        Covariates.fit(obs, [column])


def test_a_column_with_one_value_is_left_out(obs, caplog):
    covariates = Covariates.fit(obs.assign(sex="M"), ["sex", "rin"])
    assert list(covariates.columns) == ["rin"]
    assert "sex has fewer than two values" in caplog.text


def test_supposing_changes_what_is_named_alone(obs):
    covariates = Covariates.fit(obs, ["rin", "sex"])
    supposed_nk, design_nk = covariates.supposing(obs, {"rin": 10, "sex": "female"}), covariates.design(obs)
    assert len(set(supposed_nk[:, 0])) == 1
    assert supposed_nk[0, 0] > design_nk[:, 0].mean()
    np.testing.assert_array_equal(covariates.supposing(obs, {"rin": 10})[:, 2:], design_nk[:, 2:])
    with pytest.raises(ConfigError, match=r"as_if.rni is not a covariate of this model; did you mean 'rin'"):
        covariates.supposing(obs, {"rni": 1})
    with pytest.raises(
        ConfigError, match=r"as_if.sex=x is not a value of this covariate in the model: female, male"
    ):
        covariates.supposing(obs, {"sex": "x"})
    with pytest.raises(ConfigError, match=r"as_if.rin=high .*: give a number"):
        covariates.supposing(obs, {"rin": "high"})


def test_effects_within_groups_are_not_those_between_them():
    torch.manual_seed(0)
    group_n = torch.arange(N) % 3
    c_nk = torch.randn(N, 2) + 5.0 * group_n[:, None]
    truth_kf = torch.randn(2, 4)
    y_nf = c_nk @ truth_kf + 100.0 * group_n[:, None] + 0.1 * torch.randn(N, 4)
    torch.testing.assert_close(effects_within(y_nf, c_nk, group_n), truth_kf, atol=0.1, rtol=0.0)


def world(obs: pd.DataFrame) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Covariates]:
    """Samples with two factors, tissues and strong linear effects of covariates."""
    torch.manual_seed(0)
    covariates = Covariates.fit(obs, ["rin", "batch"])
    c_nk = torch.from_numpy(covariates.design(obs))
    tissue_n = torch.from_numpy(pd.factorize(obs["tissue"])[0])
    x_ng = torch.randn(N, 2) @ torch.randn(2, G) + 2.0 * c_nk @ torch.randn(6, G)
    x_ng = x_ng + 3.0 * torch.nn.functional.one_hot(tissue_n, 2) @ torch.randn(2, G)
    return (x_ng + 0.1 * torch.randn(N, G)).sub(x_ng.mean(0)), c_nk, tissue_n, covariates


def within(z_nd: torch.Tensor, c_nk: torch.Tensor, tissue_n: torch.Tensor) -> float:
    """Largest correlation between latent and covariates within tissues."""
    parts = [
        pd.DataFrame(value.numpy()).groupby(tissue_n.numpy()).transform("mean") for value in (z_nd, c_nk)
    ]
    z, c = z_nd.numpy() - parts[0].to_numpy(), c_nk[:, :2].numpy() - parts[1].to_numpy()[:, :2]
    return float(np.abs(np.corrcoef(z.T, c[:, 0])[-1, :-1]).max())


def conditional(covariates: Covariates, **arguments: Any) -> VAE:
    torch.manual_seed(1)
    settings: dict[str, Any] = {"latent_dim": 3, "hidden_dims": [8], "dropout": 0.0, **arguments}
    vae = VAE(G, n_covariates=sum(covariates.widths), **settings).eval()
    assert vae.unknown_k is not None
    vae.unknown_k.copy_(torch.from_numpy(covariates.unknown_k))
    vae.flag_k.copy_(torch.from_numpy(covariates.flag_k))
    return vae


def test_the_start_leaves_the_covariates_to_the_decoder(obs):
    x_ng, c_nk, tissue_n, covariates = world(obs)
    vae = conditional(covariates)
    start_conditional(vae, x_ng, c_nk, tissue_n)
    for part in (*vae.encoders, *vae.decoders):  # the linear paths alone
        torch.nn.init.zeros_((part.mu if hasattr(part, "mu") else part.out).weight)
    with torch.no_grad():
        mu_nd = vae.encode(x_ng, c_nk)[0]
        left_ng = x_ng - vae.decode(mu_nd, c_nk)
    assert within(mu_nd, c_nk, tissue_n) < 0.05
    assert left_ng.var() < 0.02 * x_ng.var()
    torch.testing.assert_close(mu_nd.std(0), torch.ones(3), atol=0.05, rtol=0.0)


@pytest.mark.parametrize("linear_skip", [True, False])
@pytest.mark.parametrize("hidden_dims", [[], [8]])
def test_freeing_the_latent_changes_no_reconstruction(obs, linear_skip, hidden_dims):
    x_ng, c_nk, tissue_n, covariates = world(obs)
    vae = conditional(covariates, linear_skip=linear_skip, hidden_dims=hidden_dims, n_members=2)
    with torch.no_grad():
        for part in (*vae.encoders, *vae.decoders):
            torch.nn.init.normal_(part.condition.weight)
        before_nd, before_ng = vae.encode(x_ng, c_nk)[0], vae.reconstruct(x_ng, None, c_nk)
        assert within(before_nd, c_nk, tissue_n) > 0.3
        free_latent(vae, x_ng, c_nk, tissue_n)
        after_nd, after_ng = vae.encode(x_ng, c_nk)[0], vae.reconstruct(x_ng, None, c_nk)
    torch.testing.assert_close(after_ng, before_ng, atol=1e-4, rtol=1e-4)
    assert within(after_nd, c_nk, tissue_n) < 0.1  # few samples: some is put down to chance
    torch.testing.assert_close(after_nd.mean(0), before_nd.mean(0), atol=1e-4, rtol=0.0)


def test_where_nothing_is_told_all_is_unknown(obs):
    x_ng, _, _, covariates = world(obs)
    vae = conditional(covariates)
    torch.nn.init.normal_(vae.encoders[0].condition.weight)
    unknown_nk = torch.from_numpy(covariates.design(obs[[]]))
    assert torch.equal(vae.embed(x_ng), vae.embed(x_ng, None, unknown_nk))
    assert torch.equal(vae.reconstruct(x_ng), vae.reconstruct(x_ng, None, unknown_nk))


def test_what_is_unknown_is_guessed_from_the_expression(obs):
    x_ng, c_nk, tissue_n, covariates = world(obs)
    vae = conditional(covariates)
    start_conditional(vae, x_ng, c_nk, tissue_n)
    guessed_nk = vae.complete(None, x_ng)
    assert np.corrcoef(guessed_nk[:, 0], c_nk[:, 0])[0, 1] > 0.95
    assert (guessed_nk[:, covariates.unknown_k == 1.0] == 1.0).all()
    assert torch.equal(vae.complete(guessed_nk, x_ng), guessed_nk)
    assert torch.equal(vae.complete(c_nk, x_ng), c_nk)
    partly_nk = torch.from_numpy(covariates.design(obs[["rin"]]))
    torch.testing.assert_close(vae.complete(partly_nk, x_ng)[:, :2], c_nk[:, :2])
    torch.testing.assert_close(vae.complete(partly_nk, x_ng)[:, 2:], guessed_nk[:, 2:])


@pytest.mark.parametrize(("n", "f"), [(40, 9), (9, 40)])
def test_guesses_are_ridge_regressions(n, f):
    from sklearn.linear_model import Ridge

    torch.manual_seed(0)
    y_nf, c_nk = torch.randn(n, f), torch.randn(n, 2)
    expected_kf = Ridge(alpha=n, fit_intercept=False).fit(y_nf, c_nk).coef_
    np.testing.assert_allclose(guesses(y_nf, c_nk), expected_kf.T, atol=1e-5)


def test_a_model_without_covariates_has_no_trace_of_them():
    vae = VAE(G, 3, [8])
    assert not [
        name
        for name in vae.state_dict()
        if ("encoders" not in name and "decoders" not in name and "likelihood" not in name)
        or "condition" in name
    ]


def trained(covariates: Covariates | None, vae: VAE) -> TrainedModel:
    genes = [f"ENSG{i:011d}" for i in range(G)]
    return TrainedModel(
        vae, Standardizer(G), gene_ids=genes, gene_names=genes, unit="log2(TPM+1)", covariates=covariates,
        architecture={"latent_dim": 3, "hidden_dims": [8], "dropout": 0.0},
    )  # fmt: skip


def test_a_saved_model_knows_its_covariates(obs, tmp_path):
    x_ng, _, _, covariates = world(obs)
    model = trained(covariates, conditional(covariates))
    model.save(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "model.json").read_text())["covariates"] == covariates.columns
    again = TrainedModel.load(tmp_path / "model")
    assert again.digest == model.digest
    x = x_ng.numpy()
    np.testing.assert_array_equal(again.with_covariates(obs).embed(x), model.with_covariates(obs).embed(x))
    np.testing.assert_allclose(
        again.with_covariates(obs).for_rows(slice(5, 9)).reconstruct(x[5:9]),
        again.with_covariates(obs).reconstruct(x)[5:9],
        atol=1e-5,
    )


def test_a_model_without_covariates_refuses_to_be_told():
    import anndata

    from gtex_vae.data.readers.backed import from_anndata

    model = trained(None, VAE(G, 3, [8], dropout=0.0))
    adata = anndata.AnnData(np.eye(G, dtype=np.float32), uns={"expression": {"unit": "log2(TPM+1)"}})
    matrix = from_anndata(adata, unit=None)
    assert covariates_of(model, matrix) is None
    for wrong in ({"as_if": {"rin": 1}}, {"annotations": ["x.csv"]}):
        with pytest.raises(
            ConfigError, match=r"takes no covariates; train one with \+experiment=conditional"
        ):
            covariates_of(model, matrix, **wrong)
