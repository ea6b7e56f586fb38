"""Synthetic samples of a run, and their audit compared with a PCA.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.metrics.tissue import knn_predict, labelled
from gtex_vae.analysis.synthetic.audit import REAL, Profiles, audit
from gtex_vae.data.units import log_offset
from gtex_vae.errors import ConfigError
from gtex_vae.inference.generation import TissueGaussians, between_positions, profiles
from gtex_vae.inference.predictors import embed_in_batches, posterior_in_batches
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.pca import PCA

if TYPE_CHECKING:
    from anndata import AnnData

How = Literal["tissue", "prior", "interpolation"]
MODEL, MEANS, PRINCIPAL = "model", "model, without noise", "PCA"


@dataclass(frozen=True)
class Synthetic:
    """Result of `synthesize`.

    Attributes
    ----------
    x_ng
        Expression in the model's unit.
    z_nd
        Latent positions.
    obs
        ``donor`` (one per sample), ``tissue``, ``tissue_group``, ``how``, ``made_from``; ``nearest_tissue`` if the
        positions are not those of a tissue; for a conditional model also the covariates, from random training samples.
    """

    x_ng: NDArray[np.float32]
    z_nd: NDArray[np.float32]
    obs: pd.DataFrame


def synthesize(
    model: TrainedModel,
    samples: AnnData,
    *,
    how: How,
    n_samples: int,
    tissues: Sequence[str] = (),
    between: Sequence[str] = (),
    seed: int = 0,
) -> Synthetic:
    """Draw new samples from p(x | z) at chosen latent positions.

    Parameters
    ----------
    model, samples
        A run's model, and its samples from `gtex_vae.analysis.evaluation.run_samples.open_samples`.
    how
        ``tissue``: positions from the distribution of a tissue's training samples, see `TissueGaussians`; ``prior``:
        positions from N(0, I); ``interpolation``: equal steps from one position to another.
    n_samples
        Number of samples.
    tissues
        Tissues for ``how="tissue"``; all if empty. Proportions are those of the training samples.
    between
        Two endpoints for ``how="interpolation"``; each is a tissue (mean of its training samples) or the id of a sample.
    seed
        Seed of positions and noise.

    Raises
    ------
    ConfigError
        A value is invalid, or a tissue or sample does not exist.
    """
    _check(how, n_samples, tissues, between)
    random = np.random.default_rng(seed)
    train = (samples.obs["split"] == "train").to_numpy()
    train = train & labelled(samples.obs["tissue"]) if how == "tissue" else train
    if not train.any():
        raise ConfigError("how=tissue: no training sample has a tissue; use how=prior")
    obs = samples.obs[train]
    mu_nd, log_var_nd = posterior_in_batches(model.with_covariates(obs), samples.X[train])
    if how == "tissue":
        gaussians = TissueGaussians.fit(mu_nd, np.exp(log_var_nd), obs["tissue"].astype(str).tolist())
        tissue = gaussians.shares(tissues, n_samples, random)
        z_nd, table = gaussians.draw(tissue, random), pd.DataFrame({"tissue": tissue, "made_from": tissue})
    elif how == "prior":
        z_nd = random.standard_normal((n_samples, mu_nd.shape[1]), dtype=np.float32)
        table = pd.DataFrame({"tissue": [None] * n_samples, "made_from": "N(0, I)"})
    else:
        first_d, second_d = (_position(model, samples, mu_nd, train, name) for name in between)
        z_nd = between_positions(first_d, second_d, n_samples)
        share = np.linspace(0, 1, n_samples)
        table = pd.DataFrame({"tissue": None, "made_from": " to ".join(between), "share_of_second": share})
    if how != "tissue" and labelled(obs["tissue"]).any():
        known = labelled(obs["tissue"])
        table["nearest_tissue"] = knn_predict(mu_nd[known], z_nd, obs["tissue"][known])
    table.insert(0, "donor", [f"synthetic_{i:06d}" for i in range(n_samples)])
    if "tissue_group" in obs:
        group = obs.dropna(subset=["tissue"]).groupby(obs["tissue"].astype(object))["tissue_group"].first()
        table.insert(2, "tissue_group", table["tissue"].map(group.astype(object)))
    table["how"] = how
    for name in table.columns.difference(["share_of_second"]):
        table[name] = table[name].astype(
            "category"
        )  # h5ad cannot store an object column of missing values only
    if model.covariates is not None and how != "interpolation":
        _take_covariates(table, obs, list(model.covariates.columns), random)
    table.index = pd.Index(table["donor"], name="sample")
    return Synthetic(profiles(model, z_nd, random, model.design(table)), z_nd, table)


def draw_from_prior(model: TrainedModel, n_samples: int, *, seed: int = 0) -> Synthetic:
    """Draw new samples from p(x | z) at positions from N(0, I), without the training data.

    They are those of `synthesize` with ``how="prior"``, without nearest tissues; the covariates of a conditional model
    are unknown.

    Parameters
    ----------
    model
        Trained model.
    n_samples, seed
        See `synthesize`.
    """
    _check("prior", n_samples, (), ())
    random = np.random.default_rng(seed)
    z_nd = random.standard_normal((n_samples, model.vae.latent_dim), dtype=np.float32)
    donors = [f"synthetic_{i:06d}" for i in range(n_samples)]
    table = pd.DataFrame({"donor": donors, "tissue": None, "made_from": "N(0, I)", "how": "prior"}).astype(
        "category"
    )
    table.index = pd.Index(donors, name="sample")
    return Synthetic(profiles(model, z_nd, random, model.design(table)), z_nd, table)


def audit_synthetic(
    model: TrainedModel, samples: AnnData, synthetic: Synthetic, *, seed: int = 0
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Audit synthetic samples on held-out donors; see `gtex_vae.analysis.synthetic.audit.audit`.

    Baselines are the decoded means without noise, a PCA of equal dimension with scores from the same kind of Gaussians
    and its own noise, and real training samples. If only some tissues were requested, all samples are of these.

    Parameters
    ----------
    model, samples
        As for `synthesize`.
    synthetic
        Samples with ``how="tissue"`` or ``"prior"``.
    seed
        Seed of the baselines' draws and of the audit.

    Returns
    -------
    table, metrics
        The table of `audit`, and its values under flat keys; those of baselines start with ``baseline/``.
    """
    random = np.random.default_rng(seed + 1)
    tissue = synthetic.obs["tissue"].reset_index(drop=True)
    wanted = samples.obs["tissue"].astype(object).isin(set(tissue.dropna())).to_numpy() | bool(
        tissue.isna().all()
    )
    split = samples.obs["split"].to_numpy()
    real = {}
    for part in ("train", "test"):
        rows = wanted & (split == part)
        obs = samples.obs[rows]
        real[part] = Profiles(samples.X[rows], obs["tissue"].astype(object)), obs["donor"]
    (train, train_donors), held_out = real["train"], real["test"]

    def standard(x_ng: NDArray[np.float32]) -> Profiles:
        return Profiles(model.scaler.apply_(x_ng), tissue)

    generated = {
        MODEL: standard(synthetic.x_ng.copy()),
        MEANS: standard(profiles(model, synthetic.z_nd, None, model.design(synthetic.obs))),
        PRINCIPAL: Profiles(_of_pca(model, train, tissue, len(synthetic.x_ng), random), tissue),
    }
    table, halves = audit(generated, train, train_donors, *held_out, seed=seed)
    metrics: dict[str, float] = {"mmd2_of_halves": halves}
    prefixes = {MODEL: "", MEANS: "baseline/means/", PRINCIPAL: "baseline/pca/", REAL: "baseline/training/"}
    for name, values in table.to_dict(orient="index").items():
        metrics |= {f"{prefixes[str(name)]}{key}": float(value) for key, value in values.items()}
    return table, metrics


def sentence(metrics: dict[str, float]) -> str:
    """Describe the result of the audit in one line.

    >>> print(sentence({"mmd2": 0.02, "mmd2_of_halves": 0.01, "too_near": 0.04, "tissue_accuracy": float("nan")}))
    squared MMD 0.0200, above 0.0100 between halves of the held-out donors: another distribution; 4 % are nearer to a \
training sample than 95 % of real held-out samples (expected 5 %): no copies
    """
    mmd2, halves, near = metrics["mmd2"], metrics["mmd2_of_halves"], metrics["too_near"]
    reference = f"{halves:.4f} between halves of the held-out donors"
    if np.isnan(halves):
        compared = "no reference: too few held-out donors"
    else:
        compared = f"above {reference}: another distribution" if mmd2 > halves else f"at most {reference}"
    parts = [f"squared MMD {mmd2:.4f}, {compared}"]
    if np.isfinite(metrics["tissue_accuracy"]):
        real = metrics["baseline/training/tissue_accuracy"]
        parts.append(
            f"tissue accuracy on held-out samples {metrics['tissue_accuracy']:.3f} when trained on them, "
            f"{real:.3f} on as many real samples"
        )
    parts.append(
        f"{100 * near:.0f} % are nearer to a training sample than 95 % of real held-out samples (expected 5 %): "
        + ("copies" if near > 0.5 else "too near" if near > 0.1 else "no copies")
    )
    return "; ".join(parts)


def _check(how: How, n_samples: int, tissues: Sequence[str], between: Sequence[str]) -> None:
    """Raise if the arguments contradict each other."""
    if n_samples < 2:
        raise ConfigError(f"n_samples={n_samples} must be at least 2")
    if tissues and how != "tissue":
        raise ConfigError(f"tissues={list(tissues)} is for how=tissue, not how={how}")
    if (how == "interpolation") != bool(between) or (between and len(between) != 2):
        raise ConfigError(
            f"between={list(between)}: how=interpolation needs two tissues or sample ids, how={how} takes {2 if how == 'interpolation' else 'none'}"
        )


def _take_covariates(
    table: pd.DataFrame, obs: pd.DataFrame, columns: Sequence[str], random: np.random.Generator
) -> None:
    """Copy to each sample the covariates of a random training sample, of the same tissue if it has one."""
    tissue = obs["tissue"].astype(object).to_numpy()
    rows = np.array([
        random.choice(np.flatnonzero(tissue == name) if isinstance(name, str) else len(obs))
        for name in table["tissue"].astype(object)
    ])  # fmt: skip
    for name in set(columns) - {"tissue"}:
        table[name] = obs[name].iloc[rows].to_numpy()


def _position(
    model: TrainedModel, samples: AnnData, mu_nd: NDArray[np.float32], train: NDArray[np.bool_], name: str
) -> NDArray[np.float32]:
    """Return the latent position of a sample, or the mean of a tissue's training samples."""
    if name in samples.obs_names:
        sample = samples[[name]]
        return embed_in_batches(model.with_covariates(sample.obs), sample.X)[0]
    tissue = samples.obs["tissue"][train].astype(str).to_numpy()
    if name not in tissue:
        raise ConfigError(
            f"between: {name!r} is neither a sample of the run nor a tissue of its training samples"
        )
    return np.asarray(mu_nd[tissue == name].mean(axis=0))


def _of_pca(
    model: TrainedModel, train: Profiles, tissue: pd.Series, n: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """Draw standardized samples from a probabilistic PCA, not below the lowest value of the unit."""
    pca = PCA.fit(train.x_ng, model.vae.latent_dim)
    if tissue.isna().all():
        scores_nd = random.standard_normal((n, len(pca.variance_d)), dtype=np.float32) * np.sqrt(
            pca.variance_d
        )
    else:
        known = labelled(train.tissue)
        labels = train.tissue[known].astype(str).tolist()
        scores_nd = TissueGaussians.fit(pca.embed(train.x_ng[known]), None, labels).draw(
            tissue.to_numpy(dtype=str), random
        )
    x_ng = scores_nd @ pca.components_dg + pca.mean_g
    x_ng += np.float32(np.sqrt(pca.noise)) * random.standard_normal(x_ng.shape, dtype=np.float32)
    if log_offset(model.unit) == 1.0:
        np.maximum(x_ng, (-model.scaler.center_g / model.scaler.scale_g).numpy(), out=x_ng)
    return x_ng
