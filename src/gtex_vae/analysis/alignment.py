"""Retrieval by an alignment, beside the same by raw expression, PCA and the untuned VAE.

Shapes: ``n`` donors, ``a`` donor samples, ``s`` cell-type profiles, ``g`` genes, ``d`` dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from gtex_vae.analysis.baselines import PCA
from gtex_vae.analysis.retrieval import (
    composition_matched,
    cosine_similarity,
    partner_ranks,
    retrieval_metrics,
    top1_interval,
)
from gtex_vae.data.donor_cells import DonorCells

MATCHED = 20  # donors of like composition to be told apart

Floats = NDArray[np.floating]
# donor samples (a, .) and pooled cell types (n, .), in one space
Views = tuple[Floats, Floats]


def pooled(x_sd: Floats, cells: DonorCells) -> Floats:
    """Mean of each donor's cell types, shape (n, d)."""
    total_nd = np.zeros((len(cells.donors), x_sd.shape[1]), dtype=np.float64)
    np.add.at(total_nd, cells.owner_s, x_sd)
    return total_nd / np.bincount(cells.owner_s, minlength=len(cells.donors))[:, None]


def baseline_views(
    cells: DonorCells, embed: Callable[[NDArray[np.float32]], Floats], latent_dim: int
) -> dict[str, Views]:
    """What raw expression, PCA and the untuned VAE make of both sides.

    Expression is standardized and centred with the training donors' own statistics, side by side, which makes it a
    much stronger baseline than with those of bulk tissues; the PCA is of these values, with as many components as the
    model has dimensions. Cell types are pooled by their mean, embeddings centred on each side's training donors.

    Parameters
    ----------
    cells
        The data.
    embed
        The untuned VAE's embedding of standardized expression.
    latent_dim
        Number of components.
    """
    train_n = cells.split_n == "train"
    n = len(cells.donors)
    x_ng, y_ng = cells.x_ag[:n], pooled(cells.x_sg, cells)
    sides = []
    for side_ng, all_ng in ((x_ng, cells.x_ag), (y_ng, y_ng)):
        mean_g, sd_g = side_ng[train_n].mean(0), side_ng[train_n].std(0)
        # genes that the data does not have are constant
        sides.append(np.divide(all_ng - mean_g, sd_g, out=np.zeros(all_ng.shape), where=sd_g > 1e-6))
    raw_ag, raw_ng = sides
    pca = PCA.fit(np.concatenate([raw_ag[:n][train_n], raw_ng[train_n]]), latent_dim)
    z_ad, z_nd = embed(cells.x_ag), pooled(embed(cells.x_sg), cells)
    vae = z_ad - z_ad[:n][train_n].mean(0), z_nd - z_nd[train_n].mean(0)
    return {"expression": (raw_ag, raw_ng), "pca": (pca.embed(raw_ag), pca.embed(raw_ng)), "vae": vae}


def compare(views: Mapping[str, Views], cells: DonorCells, split: str = "test") -> dict[str, float]:
    """Retrieval of held-out donors by several methods.

    Parameters
    ----------
    views
        Prefix of the keys (``""`` for the model, ``"baseline/pca/"``, ...) to both sides of all donors.
    cells
        The data.
    split
        Donors to retrieve among.

    Returns
    -------
    dict
        ``contrastive/top1`` and so on (`gtex_vae.analysis.retrieval.retrieval_metrics`, both directions averaged) from
        the donors' own samples. ``contrastive/matched/...``: each donor among the 20 that are most like it in
        composition. ``contrastive/same_composition/...``: from mixtures that have the same proportions in all donors,
        so that composition tells nothing; the mean over mixtures. ``contrastive/top1_low`` and ``_high``: 95 %
        interval over donors.
    """
    chosen = np.flatnonzero(cells.split_n == split)
    matched_nn = composition_matched(cells.proportion_nc[chosen], MATCHED)
    metrics: dict[str, float] = {}
    for prefix, (u_ad, v_nd) in views.items():
        similarity_nn = cosine_similarity(u_ad[chosen], v_nd[chosen])
        metrics |= _keys(f"{prefix}contrastive/", retrieval_metrics(similarity_nn))
        low, high = top1_interval(similarity_nn)
        metrics |= {f"{prefix}contrastive/top1_low": low, f"{prefix}contrastive/top1_high": high}
        if len(chosen) > MATCHED + 1:
            metrics |= _keys(f"{prefix}contrastive/matched/", retrieval_metrics(similarity_nn, matched_nn))
        tables = []
        for number in range(1, cells.mixture_a.max() + 1):
            mixed = np.flatnonzero((cells.mixture_a == number) & np.isin(cells.owner_a, chosen))
            owners = cells.owner_a[mixed]
            if len(owners) > 1:
                tables.append(retrieval_metrics(cosine_similarity(u_ad[mixed], v_nd[owners])))
        if tables:
            mean = {key: float(np.mean([table[key] for table in tables])) for key in tables[0]}
            metrics |= _keys(f"{prefix}contrastive/same_composition/", mean)
    return metrics


def _keys(prefix: str, figures: Mapping[str, float]) -> dict[str, float]:
    """Figures under their keys."""
    return {f"{prefix}{key}": value for key, value in figures.items()}


def rank_table(views: Mapping[str, Views], cells: DonorCells, split: str = "test") -> dict[str, list[object]]:
    """Rank of each held-out donor's partner by each method, from donor to cells and back, as columns of a table."""
    chosen = np.flatnonzero(cells.split_n == split)
    columns: dict[str, list[object]] = {"donor": [cells.donors[n] for n in chosen]}
    for prefix, (u_ad, v_nd) in views.items():
        name = prefix.strip("/").rpartition("/")[2] or "model"
        similarity_nn = cosine_similarity(u_ad[chosen], v_nd[chosen])
        columns[f"{name}_rank"] = partner_ranks(similarity_nn).tolist()
        columns[f"{name}_rank_back"] = partner_ranks(similarity_nn.T).tolist()
    return columns
