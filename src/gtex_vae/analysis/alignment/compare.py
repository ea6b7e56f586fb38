"""Retrieval by an alignment, compared with raw expression, PCA and the untuned VAE.

Shapes: ``n`` donors, ``a`` donor samples, ``s`` cell-type profiles, ``c`` cell types, ``g`` genes, ``d`` dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.metrics.bootstrap import RESAMPLES, draw_donors
from gtex_vae.analysis.metrics.retrieval import (
    AVERAGED,
    by_pair,
    composition_matched,
    cosine_similarity,
    partner_ranks,
    retrieval_metrics,
)
from gtex_vae.data.single_cell.donors import DonorCells
from gtex_vae.models.pca import PCA

MATCHED = 20  # candidates of similar composition
FIT_DONORS = 2  # training donors per cell type needed to regress composition out
BASELINES = ("baseline/expression/", "baseline/pca/", "baseline/vae/")
SETTINGS = ("", "matched/", "same_composition/", "without_composition/")

Floats = NDArray[np.floating]
# donor samples (a, .) and pooled cell types (n, .) in a common space
Views = tuple[Floats, Floats]


def pooled(x_sd: Floats, cells: DonorCells) -> Floats:
    """Average each donor's cell types, shape (n, d)."""
    total_nd = np.zeros((len(cells.donors), x_sd.shape[1]), dtype=np.float64)
    np.add.at(total_nd, cells.owner_s, x_sd)
    return total_nd / np.bincount(cells.owner_s, minlength=len(cells.donors))[:, None]


def baseline_views(
    cells: DonorCells, embed: Callable[[NDArray[np.float32]], Floats], latent_dim: int
) -> dict[str, Views]:
    """Embed both sides by raw expression, PCA and the untuned VAE, indexed by the prefix of their keys.

    Each side's expression is standardized with the statistics of its own training donors, which is a much stronger
    baseline than the statistics of bulk tissues. PCA is fitted to these values, with as many components as the model
    has dimensions. Cell types are pooled by their mean; embeddings are centered on each side's training donors.

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
        # genes missing from the data are constant
        sides.append(np.divide(all_ng - mean_g, sd_g, out=np.zeros(all_ng.shape), where=sd_g > 1e-6))
    raw_ag, raw_ng = sides
    pca = PCA.fit(np.concatenate([raw_ag[:n][train_n], raw_ng[train_n]]), latent_dim)
    z_ad, z_nd = embed(cells.x_ag), pooled(embed(cells.x_sg), cells)
    vae = z_ad - z_ad[:n][train_n].mean(0), z_nd - z_nd[train_n].mean(0)
    views = (raw_ag, raw_ng), (pca.embed(raw_ag), pca.embed(raw_ng)), vae
    return dict(zip(BASELINES, views, strict=True))


@dataclass(frozen=True)
class Compared:
    """Result of `compare`.

    Attributes
    ----------
    metrics
        ``contrastive/top1`` etc. (`gtex_vae.analysis.metrics.retrieval.retrieval_metrics`, averaged over directions) of
        the donors' own samples; keys of baselines start with their prefix. ``contrastive/matched/...``: among the 20
        donors of most similar composition. ``contrastive/same_composition/...``: mixtures with the same proportions in
        all donors, averaged over mixtures. ``contrastive/without_composition/...``: after a linear regression on the
        cell types' shares is subtracted from both sides. ``top1_low``, ``top1_high``: 95 % interval over donors.
    intervals
        95 % intervals over donors of the model's metrics and of their paired differences from each baseline; index
        ``metric`` and ``minus``.
    ranks
        Rank of each held-out donor's partner by each method, in both directions.
    """

    metrics: dict[str, float]
    intervals: pd.DataFrame
    ranks: pd.DataFrame


def compare(views: Mapping[str, Views], cells: DonorCells, split: str = "test", *, seed: int = 0) -> Compared:
    """Measure retrieval of held-out donors by several methods.

    Parameters
    ----------
    views
        Prefix of the metric keys (``""`` for the model, ``"baseline/pca/"``, ...) to both sides of all donors.
    cells
        The data.
    split
        Split whose donors are queries and candidates.
    seed
        Seed of the bootstrap over donors.
    """
    chosen = np.flatnonzero(cells.split_n == split)
    metrics: dict[str, float] = {}
    added: dict[tuple[str, str], NDArray[np.float64]] = {}
    ranks = pd.DataFrame(index=pd.Index([cells.donors[n] for n in chosen], name="donor"))
    for prefix, view in views.items():
        for setting in SETTINGS:
            found = list(_retrievals(setting, view, cells, chosen))
            if not found:
                continue
            tables = [retrieval_metrics(similarity, candidates) for _, similarity, candidates in found]
            for key in tables[0]:
                mean = float(np.mean([table[key] for table in tables]))
                metrics[f"{prefix}contrastive/{setting}{key}"] = mean
            added[prefix, setting] = _by_donor(found, len(cells.donors))[chosen]
            if not setting:
                name = prefix.strip("/").rpartition("/")[2] or "model"
                ranks[f"{name}_rank"] = partner_ranks(found[0][1])
                ranks[f"{name}_rank_back"] = partner_ranks(found[0][1].T)
    counts_bn = draw_donors(len(chosen), RESAMPLES, seed)
    for (prefix, setting), value_n2k in added.items():
        low, high = _bounds(value_n2k[..., 0], counts_bn)
        metrics |= {
            f"{prefix}contrastive/{setting}top1_low": low,
            f"{prefix}contrastive/{setting}top1_high": high,
        }
    return Compared(metrics, _intervals(added, counts_bn), ranks)


Retrieval = tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.bool_] | None]


def _retrievals(
    setting: str, view: Views, cells: DonorCells, chosen: NDArray[np.intp]
) -> Iterator[Retrieval]:
    """Yield donors, similarities and candidates of each retrieval; nothing if the data does not allow the setting."""
    u_ad, v_nd = view
    if setting == "":
        yield chosen, cosine_similarity(u_ad[chosen], v_nd[chosen]), None
    elif setting == "matched/" and len(chosen) > MATCHED + 1:
        matched_nn = composition_matched(cells.proportion_nc[chosen], MATCHED)
        yield chosen, cosine_similarity(u_ad[chosen], v_nd[chosen]), matched_nn
    elif setting == "same_composition/":
        for number in range(1, cells.mixture_a.max() + 1):
            mixed = np.flatnonzero((cells.mixture_a == number) & np.isin(cells.owner_a, chosen))
            owners = cells.owner_a[mixed]
            if len(owners) > 1:
                yield owners, cosine_similarity(u_ad[mixed], v_nd[owners]), None
    elif setting == "without_composition/":
        train_n = cells.split_n == "train"
        if train_n.sum() >= FIT_DONORS * (cells.proportion_nc.shape[1] + 1):
            sides = (
                without_composition(side, cells.proportion_nc, train_n) for side in (u_ad[: len(v_nd)], v_nd)
            )
            yield chosen, cosine_similarity(*(side[chosen] for side in sides)), None


def without_composition(z_nd: Floats, proportion_nc: Floats, train_n: NDArray[np.bool_]) -> Floats:
    """Subtract a linear regression on composition, fitted on training donors, from an embedding, shape (n, d).

    Parameters
    ----------
    z_nd
        Embedding.
    proportion_nc
        Shares of the cell types; the regression uses their square roots (Hellinger distance).
    train_n
        Donors to fit on.
    """
    design_nc = np.column_stack([np.ones(len(z_nd)), np.sqrt(proportion_nc)])
    weight_cd, *_ = np.linalg.lstsq(design_nc[train_n], np.asarray(z_nd[train_n], np.float64), rcond=None)
    return np.asarray(z_nd - design_nc @ weight_cd)


def _by_donor(found: list[Retrieval], n: int) -> NDArray[np.float64]:
    """Return each donor's contribution to `AVERAGED` per direction, averaged over retrievals, shape (n, 2, 4)."""
    added_rnk = np.full((len(found), n, 2, len(AVERAGED)), np.nan)
    for r, (donors, similarity_nn, candidate_nn) in enumerate(found):
        added_rnk[r, donors] = by_pair(similarity_nn, candidate_nn)
    count_nk = np.isfinite(added_rnk).sum(0)
    return np.divide(
        np.nansum(added_rnk, 0), count_nk, out=np.full(count_nk.shape, np.nan), where=count_nk > 0
    )


def _intervals(
    added: Mapping[tuple[str, str], NDArray[np.float64]], counts_bn: NDArray[np.float64]
) -> pd.DataFrame:
    """Compute intervals of the model's metrics and of their paired differences from the baselines."""
    rows = []
    for setting in SETTINGS:
        for k, key in enumerate(AVERAGED):
            for prefix in ("", *BASELINES):
                if (prefix, setting) not in added:
                    continue
                value_n2 = added["", setting][..., k]
                if prefix:
                    value_n2 = value_n2 - added[prefix, setting][..., k]
                value = np.nanmean(value_n2, axis=0).mean()
                bounds = _bounds(value_n2, counts_bn)
                rows.append((f"contrastive/{setting}{key}", prefix.strip("/"), value, *bounds))
    table = pd.DataFrame(rows, columns=["metric", "minus", "value", "low", "high"])
    return table.set_index(["metric", "minus"])


def _bounds(value_n2: NDArray[np.float64], counts_bn: NDArray[np.float64]) -> tuple[float, float]:
    """Compute the 95 % percentile interval of a mean over donors and directions, from bootstrap counts of donors.

    Only queries are resampled; candidates stay the same.
    """
    known_n2 = np.isfinite(value_n2)
    total_b2 = counts_bn @ np.where(known_n2, value_n2, 0.0)
    mean_b = (total_b2 / np.maximum(counts_bn @ known_n2, 1)).mean(axis=1)
    low, high = np.quantile(mean_b, [0.025, 0.975])
    return float(low), float(high)
