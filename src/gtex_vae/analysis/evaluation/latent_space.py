"""Description of a latent space by metrics and tables.

Shapes: ``n`` samples, ``d`` latent dimensions, ``f`` factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.evaluation.traversal import traversals
from gtex_vae.analysis.metrics.clustering import clustering
from gtex_vae.analysis.metrics.disentanglement import dci, mutual_information, mutual_information_gap
from gtex_vae.analysis.metrics.distances import distance_metrics, pairwise_distances
from gtex_vae.analysis.metrics.latent import latent_correlations
from gtex_vae.data.covariates import as_number
from gtex_vae.inference.trained_model import TrainedModel

if TYPE_CHECKING:
    from anndata import AnnData

DIMENSIONS = 128  # at most; those of largest variance
FEWEST_FOR_FACTORS = 30


@dataclass
class LatentTables:
    """Result of `latent_tables`.

    Attributes
    ----------
    metrics
        ``latent/...``.
    tables
        ``latent_information``, ``latent_correlations``, ``distances``, ``clustering``, ``traversals``.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


def latent_tables(
    model: TrainedModel,
    z_nd: NDArray[np.float32],
    obs: pd.DataFrame,
    covariates: Sequence[str],
    *,
    factors: pd.DataFrame | None = None,
    seed: int = 0,
) -> LatentTables:
    """Describe the embedding of held-out samples.

    Parameters
    ----------
    model
        Trained model.
    z_nd
        Posterior means, shape (n, d).
    obs
        Annotations of the samples, with ``tissue`` and ``donor``.
    covariates
        Columns to compute the mutual information with.
    factors
        True factors of simulated data, one per column, for DCI and MIG.
    seed
        Seed of shuffles, k-means, forests and draws.

    Returns
    -------
    LatentTables
        Metrics and tables.
    """
    result = LatentTables()
    variance_d = z_nd.var(axis=0, dtype=np.float64)
    shown = np.sort(np.argsort(-variance_d, kind="stable")[:DIMENSIONS])
    index = pd.Index([f"z_{d}" for d in shown], name="dimension")
    correlation_dd = latent_correlations(z_nd[:, shown])
    result.tables["latent_correlations"] = pd.DataFrame(correlation_dd, index=index, columns=list(index))
    off = correlation_dd[~np.eye(len(shown), dtype=bool)]
    result.metrics["latent/mean_absolute_correlation"] = float(np.abs(off).mean()) if len(off) else 0.0

    values = pd.DataFrame({name: as_number(obs[name]) for name in covariates if name in obs})
    values = values[[name for name in values if values[name].nunique() > 1]]
    information = mutual_information(z_nd[:, shown], values, seed=seed).set_axis(index)
    information.insert(0, "variance", variance_d[shown])
    result.tables["latent_information"] = information

    result.tables["distances"] = pairwise_distances(z_nd, obs["tissue"], obs["donor"], seed=seed)
    result.metrics |= distance_metrics(result.tables["distances"])
    result.tables["clustering"] = clustering(z_nd, obs["tissue"], seed=seed)
    result.tables["traversals"] = traversals(model, z_nd, shown, seed=seed)
    if factors is not None and len(factors) >= FEWEST_FOR_FACTORS and z_nd.shape[1] > 1:
        result.metrics["latent/mig"] = mutual_information_gap(z_nd, factors)
        result.metrics |= dci(z_nd, factors, seed=seed)
    return result


def known_factors(adata: AnnData) -> pd.DataFrame | None:
    """Return the true factors of simulated samples; None for real data."""
    if "truth_factors" not in adata.obsm:
        return None
    factors_nf = np.asarray(adata.obsm["truth_factors"], dtype=np.float64)
    return pd.DataFrame({f"factor_{f}": column for f, column in enumerate(factors_nf.T)})
