"""Encoding: the same samples give the same embeddings, however they are written, ordered, named and cut in batches."""

from __future__ import annotations

import json
import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import gtex_vae
from gtex_vae.data.genes.table import bundled_genes
from gtex_vae.data.readers.backed import from_anndata, open_matrix
from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import ConfigError, DataError, RunError
from gtex_vae.inference.encoding import encode_blocks, model_input
from gtex_vae.inference.model import Model
from gtex_vae.inference.model_input import wanted_genes
from gtex_vae.models.vae import VAE
from gtex_vae.nn import linear
from gtex_vae.paths import shared_dir

N, G, D = 40, 120, 4
TABLE = bundled_genes().of_biotype().frame
GENES = TABLE[~TABLE["gene_name"].duplicated(keep=False) & (TABLE["gene_name"] != "")].iloc[100 : 100 + G]
IDS, NAMES = list(GENES.index), list(GENES["gene_name"])
LENGTH_G = GENES["length"].to_numpy(float)
UNIT = "log2(TPM+1)"


def tpm() -> np.ndarray:
    """Whole libraries (each sums to a million) of four factors' doing."""
    rng = np.random.default_rng(0)
    log_ng = rng.normal(10, 1.5, G) + rng.normal(size=(N, D)) @ rng.normal(0, 0.7, (D, G))
    linear_ng = np.exp2(log_ng)
    return (linear_ng / linear_ng.sum(1, keepdims=True) * 1e6).astype(np.float32)


TPM = tpm()
LOG = np.log2(TPM + 1)


def table(x_ng, ids=IDS, **unit) -> anndata.AnnData:
    obs = pd.DataFrame({"donor": [f"d{i // 2}" for i in range(N)]}, index=[f"s{i}" for i in range(N)])
    uns = {"expression": unit} if unit else {}
    return anndata.AnnData(x_ng, obs=obs, var=pd.DataFrame(index=list(ids)), uns=uns)


def trained(architecture: dict, unit: str = UNIT) -> Model:
    torch.manual_seed(1)
    scaler = Standardizer(G).fit(LOG)
    return Model(
        VAE(G, **architecture), scaler, gene_ids=IDS, gene_names=NAMES, unit=unit, architecture=architecture
    )


@pytest.fixture(scope="module")
def pca() -> Model:
    """A VAE that is a PCA exactly: its encoder and decoder have closed forms."""
    model = trained({"latent_dim": D, "hidden_dims": []})
    standard_ng = model.scaler(torch.from_numpy(LOG)).numpy()
    _, s_d, v_dg = np.linalg.svd(standard_ng, full_matrices=False)
    model.vae.start_from_pca(
        torch.from_numpy(v_dg[:D].copy()),
        torch.from_numpy((s_d[:D] ** 2 / N).astype(np.float32)),
        torch.zeros(G),
    )
    for layer in (model.vae.encoders[0].mu, model.vae.decoders[0].out):
        torch.nn.init.zeros_(layer.weight)
    return model


@pytest.fixture(scope="module")
def deep() -> Model:
    return trained({"latent_dim": 6, "hidden_dims": [32, 16]})


def encode(model: Model, path, batch_size: int = 512, **how) -> np.ndarray:
    with open_matrix(path, keep_gene=wanted_genes(model.gene_ids, model.gene_names), **how) as matrix:
        data = model_input(model, matrix, impute=False)
        return np.concatenate([part.mu_nd for part in encode_blocks(model, data, batch_size=batch_size)])


def test_embeddings_are_the_posterior_means_in_closed_form(pca):
    embedded = pca.encode(table(LOG, unit=UNIT), sd=True)
    standard_ng = (LOG - LOG.mean(0)) / np.maximum(LOG.std(0), 0.05)
    u_nd = np.linalg.svd(standard_ng, full_matrices=False)[0]
    sign_d = np.sign((embedded.X * u_nd[:, :D]).sum(0))
    np.testing.assert_allclose(embedded.X, u_nd[:, :D] * np.sqrt(N) * sign_d, atol=2e-3)
    # the variance's head has zero weights and this bias before training
    np.testing.assert_allclose(embedded.layers["sd"], np.exp(-1.5), rtol=1e-6)
    assert list(embedded.obs_names) == [f"s{i}" for i in range(N)]
    assert list(embedded.obs["donor"][:3]) == ["d0", "d0", "d1"]
    assert embedded.uns["embedding"]["model_sha256"] == pca.digest


PERMUTED = np.random.default_rng(3).permutation(G)


def write_counts() -> np.ndarray:
    """Counts whose TPM are ours, up to rounding: very deep libraries."""
    rate_ng = TPM * LENGTH_G
    return np.rint(rate_ng / rate_ng.sum(1, keepdims=True) * 1e9)


def unknown_beside() -> anndata.AnnData:
    rng = np.random.default_rng(5)
    return table(
        np.hstack([rng.gamma(1, 3, (N, 9)), LOG]).astype("f4"),
        [*map("thing{}".format, range(9)), *IDS],
        unit=UNIT,
    )


WRITTEN = {
    "genes in another order": lambda: table(LOG[:, PERMUTED], np.array(IDS)[PERMUTED], unit=UNIT),
    "versioned ids": lambda: table(LOG, [f"{gene}.{i % 20}" for i, gene in enumerate(IDS)], unit=UNIT),
    "symbols only": lambda: table(LOG, NAMES, unit=UNIT),
    "symbols with ids beside": lambda: _with_ids(),
    "unknown genes beside": unknown_beside,
    "transposed": lambda: table(LOG, unit=UNIT).T,
    "CSR": lambda: table(sp.csr_matrix(LOG), unit=UNIT),
    "CSC": lambda: table(sp.csc_matrix(LOG), unit=UNIT),
    "CSR, TPM": lambda: table(sp.csr_matrix(TPM)),
    "float64": lambda: table(LOG.astype(float), unit=UNIT),
    "unit not stated": lambda: table(LOG),
    "TPM": lambda: table(TPM),
    "log2(TPM+0.001)": lambda: table(np.log2(TPM + 0.001), unit="log2(TPM+0.001)"),
    "a view": lambda: table(np.hstack([LOG, LOG]), [*IDS, *map("x{}".format, range(G))], unit=UNIT)[:, :G],
}


def _with_ids() -> anndata.AnnData:
    adata = table(LOG, NAMES, unit=UNIT)
    adata.var["gene_ids"] = IDS
    return adata


@pytest.mark.parametrize("written", WRITTEN)
def test_the_same_samples_give_the_same_embeddings(deep, written):
    expected = deep.encode(table(LOG, unit=UNIT)).X
    np.testing.assert_allclose(deep.encode(WRITTEN[written]()).X, expected, atol=2e-4)


def test_counts_become_the_models_unit(deep):
    expected = deep.encode(table(LOG, unit=UNIT)).X
    embedded = deep.encode(table(write_counts()))
    np.testing.assert_allclose(embedded.X, expected, atol=2e-3)
    unit = json.loads(embedded.uns["embedding"]["alignment"])["unit"]
    assert (unit["found"], unit["used"], unit["same"]) == ("counts", UNIT, True)


def test_counts_are_scaled_over_the_models_biotypes(deep):
    """Non-coding RNA that takes most of the reads changes nothing for a model of coding genes, as in preprocess."""
    frame = bundled_genes().frame
    other = frame.index[frame["biotype"] == "lncRNA"][:3]
    counts = write_counts()
    more = np.hstack([counts, np.full((N, 3), counts.sum(1).max())])
    embedded = deep.encode(table(more, [*IDS, *other]))
    np.testing.assert_allclose(embedded.X, deep.encode(table(counts)).X, atol=1e-5)
    assert json.loads(embedded.uns["embedding"]["alignment"])["unit"]["scaled_over_genes"] == G


def test_counts_for_a_model_of_counts_per_million():
    cpm = trained({"latent_dim": 3, "hidden_dims": [8]}, unit="log2(CPM+1)")
    counts = write_counts()
    log_ng = np.log2(counts / counts.sum(1, keepdims=True) * 1e6 + 1).astype("f4")
    expected = cpm.embed(cpm.scaler(torch.from_numpy(log_ng)).numpy())
    np.testing.assert_allclose(cpm.encode(table(counts)).X, expected, atol=1e-4)
    np.testing.assert_allclose(cpm.encode(table(log_ng, unit="log2(CPM+1)")).X, expected, atol=1e-5)


def test_another_unit_is_taken_with_a_warning(deep, caplog):
    report = deep.encode(table(LOG, unit="log2(RPKM+1)")).uns["embedding"]["alignment"]
    assert json.loads(report)["unit"]["same"] is False
    assert "log2(RPKM+1), the model in log2(TPM+1)" in caplog.text


def test_a_unit_of_the_models_own_is_taken_as_it_is():
    odd = trained({"latent_dim": 2, "hidden_dims": []}, unit="arbitrary")
    x = LOG - 20
    expected = odd.embed(odd.scaler(torch.from_numpy(x)).numpy())
    np.testing.assert_allclose(odd.encode(table(x, unit="arbitrary")).X, expected, atol=1e-5)
    with pytest.raises(DataError, match="'furlongs' cannot become the model's"):
        odd.encode(table(LOG, unit="furlongs"))


def h5ad(path, **how):
    table(LOG, unit=UNIT).write_h5ad(path, **how)


def h5ad_csr(path):
    table(sp.csr_matrix(TPM)).write_h5ad(path)


def h5ad_csc(path):
    table(sp.csc_matrix(TPM)).write_h5ad(path)


def h5ad_chunked(path):
    h5ad(path, compression="gzip")


def h5ad_genes_in_rows(path):
    table(TPM).T.write_h5ad(path)


def zarr(path):
    table(TPM).write_zarr(path)


def zarr_csr(path):
    table(sp.csr_matrix(TPM)).write_zarr(path)


def parquet(path):
    table(TPM).to_df().to_parquet(path)


def tsv_genes_in_rows(path):
    table(TPM).to_df().T.to_csv(path, sep="\t")


def gct(path):
    frame = table(TPM).to_df().T
    frame.insert(0, "Description", NAMES)
    text = frame.to_csv(sep="\t", index_label="Name")
    path.write_text(f"#1.2\n{G}\t{N}\n{text}")


FILES = (
    h5ad,
    h5ad_csr,
    h5ad_csc,
    h5ad_chunked,
    h5ad_genes_in_rows,
    zarr,
    zarr_csr,
    parquet,
    tsv_genes_in_rows,
    gct,
)


@pytest.mark.parametrize("write", FILES, ids=lambda write: write.__name__)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_files_give_what_memory_gives(deep, write, tmp_path):
    path = tmp_path / "matrix"
    write(path)
    expected = deep.encode(table(LOG, unit=UNIT)).X
    np.testing.assert_allclose(encode(deep, path, batch_size=7), expected, atol=2e-4)


@pytest.mark.parametrize("batch_size", [1, 7, N - 1, N])
def test_a_sample_does_not_depend_on_its_batch(deep, batch_size, tmp_path):
    h5ad(tmp_path / "x.h5ad")
    expected = encode(deep, tmp_path / "x.h5ad", batch_size=N + 5)
    np.testing.assert_allclose(encode(deep, tmp_path / "x.h5ad", batch_size=batch_size), expected, atol=2e-6)


@pytest.mark.parametrize("write", [h5ad, h5ad_csr, h5ad_chunked, zarr])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_stores_are_read_by_blocks(write, tmp_path):
    path = tmp_path / "matrix"
    write(path)
    with open_matrix(path) as matrix:
        assert not isinstance(matrix.x_ng, np.ndarray) and not sp.issparse(matrix.x_ng)


def test_missing_genes_stand_at_their_training_mean(deep):
    present = np.arange(G) % 4 != 0
    filled = np.where(present, LOG, deep.scaler.center_g.numpy())
    embedded = deep.encode(table(LOG[:, present], np.array(IDS)[present], unit=UNIT), impute=False)
    np.testing.assert_allclose(embedded.X, deep.encode(table(filled, unit=UNIT)).X, atol=1e-5)
    report = json.loads(embedded.uns["embedding"]["alignment"])
    assert report["missing_filled_with"] == "training mean"
    assert report["present"] == present.sum() and report["overlap"] == present.mean()
    assert report["missing"] == {"count": G // 4, "examples": list(np.array(IDS)[~present][:10])}


def test_too_few_genes_are_refused_with_numbers(deep):
    with pytest.raises(DataError, match=r"only 50 of the model's 120 genes \(41\.7%\).*min_overlap=50%"):
        deep.encode(table(LOG[:, :50], IDS[:50], unit=UNIT))
    matrix = from_anndata(table(LOG[:, :50], IDS[:50], unit=UNIT))
    assert len(model_input(deep, matrix, impute=False, min_overlap=0.4)) == N
    with pytest.raises(ConfigError, match="min_overlap=2"):
        model_input(deep, matrix, impute=False, min_overlap=2)


def test_imputed_genes_are_nearer_the_truth_than_the_mean(pca):
    present = np.arange(G) % 3 != 0
    part = table(LOG[:, present], np.array(IDS)[present], unit=UNIT)
    whole = pca.encode(table(LOG, unit=UNIT)).X
    by_mean, imputed = pca.encode(part, impute=False).X, pca.encode(part).X
    assert np.square(imputed - whole).mean() < 0.25 * np.square(by_mean - whole).mean()
    completed = pca.impute(part)
    np.testing.assert_array_equal(completed.X[:, present], LOG[:, present])
    hidden = np.square(completed.X[:, ~present] - LOG[:, ~present]).mean()
    assert hidden < 0.25 * LOG[:, ~present].var(0).mean()
    assert completed.var["measured"].tolist() == present.tolist()
    assert completed.uns["expression"]["unit"] == UNIT


@pytest.mark.parametrize("missing", [0.2, 0.4])
def test_missing_genes_are_predicted_unless_asked_otherwise(pca, missing):
    present = np.random.default_rng(0).random(G) >= missing
    part = table(LOG[:, present], np.array(IDS)[present], unit=UNIT)
    whole, default, by_mean = (
        pca.encode(table(LOG, unit=UNIT)),
        pca.encode(part),
        pca.encode(part, impute=False),
    )
    sd_d = whole.X.std(0)
    off, off_by_mean = (np.abs((embedded.X - whole.X) / sd_d).mean() for embedded in (default, by_mean))
    assert off < 0.5 * off_by_mean
    filled = {name: json.loads(embedded.uns["embedding"]["alignment"])["missing_filled_with"]
              for name, embedded in (("default", default), ("mean", by_mean))}  # fmt: skip
    assert filled == {"default": "the model's prediction", "mean": "training mean"}


def test_a_layer_and_another_overlap_are_taken(deep):
    adata = table(LOG[:, :50], IDS[:50], unit=UNIT)
    adata.layers["log"], adata.X = adata.X, np.zeros_like(adata.X)
    embedded = deep.encode(adata, layer="log", min_overlap=0.4)
    expected = deep.encode(table(LOG[:, :50], IDS[:50], unit=UNIT), min_overlap=0.4)
    np.testing.assert_array_equal(embedded.X, expected.X)
    assert deep.impute(adata, layer="log", min_overlap=0.4).shape == (N, G)
    with pytest.raises(DataError, match="has no layer 'counts'"):
        deep.encode(adata, layer="counts")


def test_reconstruction_is_the_decoded_mean_in_the_models_unit(deep):
    z_ng = deep.scaler(torch.from_numpy(LOG)).numpy()
    expected = deep.scaler.inverse(torch.from_numpy(deep.reconstruct(z_ng))).numpy().clip(0)
    completed = deep.impute(table(LOG, unit=UNIT))
    np.testing.assert_allclose(completed.layers["reconstruction"], expected, atol=1e-4)


def test_encoding_draws_nothing_and_changes_nothing(deep):
    adata = table(TPM.copy())
    first = deep.encode(adata).X
    torch.manual_seed(7)
    np.testing.assert_array_equal(deep.encode(adata).X, first)
    np.testing.assert_array_equal(adata.X, TPM)


def test_bfloat16_agrees_with_float32(deep):
    expected = deep.encode(table(LOG, unit=UNIT)).X
    with torch.autocast("cpu", torch.bfloat16):
        half = deep.encode(table(LOG, unit=UNIT)).X
    assert half.dtype == np.float32
    assert 0 < np.abs(half - expected).max() < 0.05 * expected.std()


def test_a_bad_value_in_a_late_block_is_named(deep, tmp_path):
    for value, what in ((np.nan, "NaN"), (-3.0, "cannot be negative")):
        x = np.vstack([LOG] * 10)
        x[333, 5] = value
        adata = anndata.AnnData(x, obs=pd.DataFrame(index=[f"s{i}" for i in range(10 * N)]))
        adata.var_names, adata.uns["expression"] = IDS, {"unit": UNIT}
        adata.write_h5ad(tmp_path / "bad.h5ad")
        with pytest.raises(DataError, match=what) as error:
            encode(deep, tmp_path / "bad.h5ad", batch_size=50)
        assert "'s333'" in str(error.value) and IDS[5] in str(error.value)


def test_samples_of_one_name_are_refused(deep):
    adata = table(LOG, unit=UNIT)
    adata.obs_names = ["same"] * N
    with pytest.raises(DataError, match="'same' occurs twice"):
        deep.encode(adata)


@pytest.mark.parametrize("more", [{}, {"n_components": 9, "n_members": 2, "likelihood": "per_sample"}])
def test_the_exported_program_gives_the_same_embeddings(more, tmp_path):
    deep = trained({"latent_dim": 6, "hidden_dims": [32, 16], **more})
    deep.export(tmp_path / "model.pt2")
    files = {"genes.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=files).module()
    expected = deep.encode(table(LOG, unit=UNIT)).X
    for n in (1, 2, N):
        np.testing.assert_allclose(program(torch.from_numpy(LOG[:n])).detach(), expected[:n], atol=1e-5)
    genes = json.loads(files["genes.json"])
    assert genes["gene_ids"] == IDS and genes["unit"] == UNIT
    np.testing.assert_allclose(genes["missing"], LOG.mean(0), rtol=1e-5)


def test_a_program_of_wide_layers_takes_any_number_of_samples(deep, tmp_path, monkeypatch):
    """Wide layers take oneDNN's product for several samples; a program is of one product for all numbers of them."""
    monkeypatch.setattr(linear, "LARGE", 1)
    deep.export(tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2")
    expected = deep.encode(table(LOG, unit=UNIT)).X
    for n in (1, N):
        np.testing.assert_allclose(
            program.module()(torch.from_numpy(LOG[:n])).detach(), expected[:n], atol=1e-5
        )
    assert not [node for node in program.graph.nodes if "linalg" in str(node.target)]  # unknown to ONNX


def test_the_digest_is_that_of_the_content(deep, tmp_path):
    deep.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model")
    assert loaded.digest == deep.digest and loaded.origin == str(tmp_path / "model")
    with torch.no_grad():
        loaded.scaler.center_g[0] += 1e-3
    assert loaded.digest != deep.digest


def test_load_takes_finished_runs_only(deep, tmp_path):
    run = tmp_path / "train" / "runs" / "one"
    deep.save(run / "model")
    (run / "config.yaml").write_text("{}")
    with pytest.raises(RunError, match="unfinished"):
        gtex_vae.load(run)
    with pytest.raises(RunError, match="no finished run"):
        gtex_vae.load(outputs=tmp_path)
    (run / "SUCCESS").touch()
    for found in (gtex_vae.load(run), gtex_vae.load(outputs=tmp_path), gtex_vae.load(run / "model")):
        assert found.digest == deep.digest


@pytest.mark.real
def test_a_real_gct_gives_what_the_real_h5ad_gives():
    folder = shared_dir() / "gtex_v6"
    if not (folder / "gtex_v6.h5ad").exists():
        pytest.skip("no shared GTEx v6 extract")
    h5ad = anndata.read_h5ad(folder / "gtex_v6.h5ad", backed="r")
    torch.manual_seed(0)
    architecture = {"latent_dim": 16, "hidden_dims": [32]}
    with open_matrix(folder / "gtex_v6_240.gct.gz") as matrix:
        assert matrix.unit == "tpm/rpkm"
        some = h5ad[matrix.sample_ids].to_memory()
        model = Model(
            VAE(h5ad.n_vars, **architecture),
            Standardizer(h5ad.n_vars).fit(np.asarray(some.X)),
            gene_ids=list(h5ad.var_names),
            gene_names=list(h5ad.var["gene_name"]),
            unit="log2(RPKM+1)",
            architecture=architecture,
        )
        data = model_input(model, matrix, impute=False)
        assert data.report["unit"]["same"] and data.present_g.all()
        from_gct = np.concatenate([part.mu_nd for part in encode_blocks(model, data)])
    # the .h5ad is rounded to 1/256
    np.testing.assert_allclose(from_gct, model.encode(some).X, atol=0.05)
    assert from_gct.std() > 0.5


def test_importing_the_package_imports_nothing_heavy():
    heavy = "import sys, gtex_vae; gtex_vae.load; print([m for m in ('torch', 'numpy', 'hydra') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
