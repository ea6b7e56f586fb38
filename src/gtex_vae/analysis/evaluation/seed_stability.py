"""Agreement of runs that differ only in the seed: latents, neighbours of held-out samples and of genes.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions, ``k`` neighbours.
"""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.evaluation.run_samples import open_samples
from gtex_vae.analysis.genes.embedding import decoder_jacobian, gene_embedding
from gtex_vae.analysis.genes.neighbours import cosine_neighbours
from gtex_vae.inference.predictors import embed_in_batches
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.runs.sweep import SEED, SweepRun

log = logging.getLogger(__name__)

NEIGHBOURS = 15


def linear_cka(a_nd: NDArray[np.floating], b_nd: NDArray[np.floating]) -> float:
    r"""Compute linear centered kernel alignment: 1 for embeddings equal up to rotation and scale, near 0 if unrelated.

    .. math:: \frac{\lVert B^\top A \rVert_F^2}{\lVert A^\top A \rVert_F \lVert B^\top B \rVert_F}

    with columns centered. The two may have different numbers of dimensions.

    References
    ----------
    Kornblith, Norouzi, Lee and Hinton (2019), Similarity of Neural Network Representations Revisited, eq. 3.

    Examples
    --------
    >>> a = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(linear_cka(a, 2 * a[:, ::-1]), 6)
    1.0
    """
    a_nd, b_nd = (x - x.mean(0) for x in (np.asarray(a_nd, float), np.asarray(b_nd, float)))
    scale = np.linalg.norm(a_nd.T @ a_nd) * np.linalg.norm(b_nd.T @ b_nd)
    return float(np.linalg.norm(b_nd.T @ a_nd) ** 2 / scale) if scale else float("nan")


def procrustes_r2(a_nd: NDArray[np.floating], b_nd: NDArray[np.floating]) -> float:
    r"""Compute the variance that two embeddings share after the best rotation, reflection and scaling.

    .. math:: R^2 = \frac{(\sum_i \sigma_i(A^\top B))^2}{\lVert A \rVert_F^2 \lVert B \rVert_F^2}

    with columns centered. It is symmetric.

    References
    ----------
    Gower (1975), Generalized Procrustes Analysis.
    """
    a_nd, b_nd = (x - x.mean(0) for x in (np.asarray(a_nd, float), np.asarray(b_nd, float)))
    scale = np.linalg.norm(a_nd) * np.linalg.norm(b_nd)
    return float((np.linalg.norm(a_nd.T @ b_nd, ord="nuc") / scale) ** 2) if scale else float("nan")


def jaccard(a_nk: NDArray[np.integer], b_nk: NDArray[np.integer]) -> float:
    """Compute the Jaccard index of two lists of neighbours, averaged over rows.

    >>> jaccard(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [4, 5]]))
    0.6666666666666666
    """
    shares = [
        len(set(a) & set(b)) / len(set(a) | set(b)) for a, b in zip(a_nk.tolist(), b_nk.tolist(), strict=True)
    ]
    return float(np.mean(shares)) if shares else float("nan")


def chance(count: int, k: int) -> float:
    """Approximate `jaccard` of random neighbours, ``k`` of the ``count - 1`` others."""
    shared = k * k / max(count - 1, 1)
    return shared / (2 * k - shared) if k else float("nan")


def sample_neighbours(z_nd: NDArray[np.floating], k: int) -> NDArray[np.intp]:
    """Find the nearest other samples by Euclidean distance, shape (n, k)."""
    from sklearn.neighbors import NearestNeighbors

    found: NDArray[np.intp] = NearestNeighbors(n_neighbors=k).fit(z_nd).kneighbors(return_distance=False)
    return found


@dataclass(frozen=True)
class _View:
    """Embeddings and neighbours of one run."""

    samples: tuple[str, ...]
    z_nd: NDArray[np.float32]
    near_nk: NDArray[np.intp]
    genes: tuple[str, ...]
    genes_gk: NDArray[np.intp]


def stability(sweep_dir: Path, runs: Sequence[SweepRun], *, seed: int = 0) -> pd.DataFrame:
    """Compare every pair of finished runs whose overrides differ only in the seed.

    Parameters
    ----------
    sweep_dir
        Folder of the runs.
    runs
        Result of `gtex_vae.runs.sweep.read_sweep`.
    seed
        Seed of the training samples over which decoder Jacobians are averaged.

    Returns
    -------
    DataFrame
        A row for each pair: ``setting``, ``run_a``, ``run_b``; ``latent_cka`` and ``latent_procrustes`` (`linear_cka`,
        `procrustes_r2`), ``sample_neighbours`` and ``gene_neighbours`` (`jaccard` of 15) with their `chance` values. Pairs
        with different held-out samples are left out.
    """
    from tqdm import tqdm

    groups: dict[str, list[SweepRun]] = defaultdict(list)
    for run in runs:
        if run.status == "finished" and (sweep_dir / run.name / "model").is_dir():
            groups[setting_of(run, runs)].append(run)
    repeated = {setting: members for setting, members in groups.items() if len(members) > 1}
    rows = []
    total = sum(len(members) for members in repeated.values())
    with tqdm(total=total, desc="comparing seeds", unit="run", leave=False, disable=None) as bar:
        for setting, members in repeated.items():
            views = []
            for run in members:
                views.append(_view(sweep_dir / run.name, seed))
                bar.update()
            for (a, run_a), (b, run_b) in itertools.combinations(zip(views, members, strict=True), 2):
                if a.samples != b.samples or a.genes != b.genes:
                    log.warning(
                        "%s and %s are not compared: they held out different samples", run_a.name, run_b.name
                    )
                    continue
                rows.append(
                    {"setting": setting, "run_a": run_a.short, "run_b": run_b.short, **_agreement(a, b)}
                )
    return pd.DataFrame(rows)


def setting_of(run: SweepRun, runs: Sequence[SweepRun]) -> str:
    """Return the overrides of a run without the seed and without those that all runs share."""
    return " ".join(
        f"{key}={value}" for key, value in run.overrides.items()
        if key != SEED and len({other.overrides.get(key) for other in runs}) > 1
    )  # fmt: skip


def _view(run_dir: Path, seed: int) -> _View:
    model = TrainedModel.load(run_dir / "model")
    adata = open_samples(run_dir, model)
    train, test = ((adata.obs["split"] == split).to_numpy() for split in ("train", "test"))
    z_nd = embed_in_batches(model.with_covariates(adata.obs), adata.X)
    genes_gd = gene_embedding(decoder_jacobian(model.vae, z_nd[train], seed=seed), z_nd[train])
    k = min(NEIGHBOURS, int(test.sum()) - 1)
    return _View(
        samples=tuple(adata.obs_names[test]),
        z_nd=z_nd[test],
        near_nk=sample_neighbours(z_nd[test], k),
        genes=tuple(model.gene_ids),
        genes_gk=cosine_neighbours(genes_gd, NEIGHBOURS)[0],
    )


def _agreement(a: _View, b: _View) -> dict[str, float]:
    return {
        "latent_cka": linear_cka(a.z_nd, b.z_nd),
        "latent_procrustes": procrustes_r2(a.z_nd, b.z_nd),
        "sample_neighbours": jaccard(a.near_nk, b.near_nk),
        "sample_chance": chance(len(a.samples), a.near_nk.shape[1]),
        "gene_neighbours": jaccard(a.genes_gk, b.genes_gk),
        "gene_chance": chance(len(a.genes), a.genes_gk.shape[1]),
    }
