"""Nearly identical samples: sequenced twice, renamed or listed twice.

Shape suffixes: n samples, g genes, p random projections.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gtex_vae.data.genes.columns import Matrix
from gtex_vae.data.preprocess.gene_stats import gene_stats
from gtex_vae.data.preprocess.sample_stats import blocks
from gtex_vae.data.rows import take_rows

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)

STORED = "near_duplicates"  # key of uns["provenance"]
MOST_STORED = 1000
MOST_COMPARED = 50_000  # all pairs of these take minutes
MOST_SEARCHED_IN_TRAINING = 5_000  # of a file without the key; about a second
THRESHOLD = 0.98
SHOWN = 5
PROJECTIONS = 128
# limits time; a useful threshold finds far fewer
MAX_PAIRS = 200_000


def near_duplicates(x_ng: Matrix, samples: pd.Index, *, threshold: float = THRESHOLD) -> pd.DataFrame:
    r"""Find pairs of samples whose standardized profiles correlate above a threshold.

    Each gene is standardized first, so that the common profile of all samples does not count. Candidate pairs are
    found in 128 random projections, where the estimate of a correlation r has a standard deviation of about
    :math:`(1 - r^2) / \sqrt{128}`, with a margin of five of them; the candidates' correlations are then exact.

    Parameters
    ----------
    x_ng
        Samples x genes, dense, CSR or on disk, on a logarithmic scale.
    samples
        Sample ids.
    threshold
        Minimum correlation.

    Returns
    -------
    DataFrame
        ``sample``, ``other``, ``correlation``, in descending order of correlation.
    """
    n_samples, n_genes = x_ng.shape
    stats = gene_stats(x_ng, unit="log2(x+1)")
    sd_g = np.sqrt(stats.var_g)
    scale_g = np.divide(1, sd_g, out=np.zeros_like(sd_g), where=sd_g > 1e-6).astype(np.float32)
    mean_g = stats.mean_g.astype(np.float32)

    def unit_rows(block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        z = (block - mean_g) * scale_g
        z -= z.mean(axis=1, keepdims=True)
        z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
        return z

    rng = np.random.default_rng(0)
    direction_gp = rng.standard_normal((n_genes, PROJECTIONS), dtype=np.float32)
    y_np = np.empty((n_samples, PROJECTIONS), dtype=np.float32)
    for part, block in blocks(x_ng):
        y_np[part] = unit_rows(block) @ direction_gp
    y_np /= np.maximum(np.linalg.norm(y_np, axis=1, keepdims=True), 1e-12)
    margin = 5 * (1 - threshold**2) / np.sqrt(PROJECTIONS)
    pairs = []
    for start in range(0, n_samples, 1024):
        close = y_np[start : start + 1024] @ y_np[start:].T > threshold - margin
        first, second = np.nonzero(np.triu(close, k=1))
        pairs.append(np.column_stack([first, second]) + start)
    candidates = np.concatenate(pairs)[:MAX_PAIRS] if pairs else np.empty((0, 2), dtype=np.intp)
    correlation = np.empty(len(candidates))
    for start in range(0, len(candidates), 256):
        a, b = candidates[start : start + 256].T
        rows, position = np.unique(np.concatenate([a, b]), return_inverse=True)
        _, z = next(blocks(x_ng[rows], rows=len(rows)))
        z = unit_rows(z)
        left, right = z[position[: len(a)]], z[position[len(a) :]]
        correlation[start : start + 256] = np.einsum("ng,ng->n", left, right)
    found = correlation >= threshold
    frame = pd.DataFrame(
        {
            "sample": samples[candidates[found, 0]],
            "other": samples[candidates[found, 1]],
            "correlation": correlation[found],
        }
    )
    return frame.sort_values("correlation", ascending=False, ignore_index=True)


def search(x_ng: Matrix, samples: pd.Index) -> pd.DataFrame:
    """Find `near_duplicates` among the samples that are not all zero; none among more than `MOST_COMPARED` samples."""
    filled = np.concatenate([block.any(axis=1) for _, block in blocks(x_ng)])
    rows = np.flatnonzero(filled)
    if len(rows) > MOST_COMPARED:
        log.info(
            "no search for near-duplicates among %d samples: more than %d would take too long",
            len(rows), MOST_COMPARED,
        )  # fmt: skip
        return pd.DataFrame({"sample": [], "other": [], "correlation": []})
    return near_duplicates(take_rows(x_ng, rows), samples[rows])


def to_json(pairs: pd.DataFrame) -> str:
    """Convert pairs to the text that processed files contain, the most similar `MOST_STORED` of them."""
    rows = pairs.head(MOST_STORED).itertuples(index=False)
    return json.dumps([[str(a), str(b), round(float(r), 4)] for a, b, r in rows])


def pairs_of(adata: AnnData) -> list[tuple[str, str]]:
    """Return the pairs of near-duplicates of a processed AnnData, stored by preprocess or searched for now."""
    provenance: Any = adata.uns.get("provenance")
    stored = provenance.get(STORED) if isinstance(provenance, dict) else None
    if isinstance(stored, str):
        return [(a, b) for a, b, _ in json.loads(stored)]
    if adata.X is None or adata.n_obs > MOST_SEARCHED_IN_TRAINING:
        return []
    found = search(adata.X, adata.obs_names)
    return [*zip(found["sample"], found["other"], strict=True)]


def warn_of_duplicates(adata: AnnData) -> None:
    """Name near-duplicates under different donors, and those in different splits if ``obs`` has ``split``."""
    pairs = pairs_of(adata)
    for column, problem in (
        ("donor", "of different donors are nearly identical; probably one person has two names"),
        ("split", "in different splits are nearly identical, so that metrics are too optimistic"),
    ):
        if column not in adata.obs:
            continue
        label = dict(zip(adata.obs_names, adata.obs[column].astype(object), strict=True))
        known = [(a, b) for a, b in pairs if a in label and b in label and label[a] != label[b]]
        if known:
            log.warning(
                "%d pairs of samples %s: %s%s; data.prepare.blacklist=[%s,...] excludes samples",
                len(known), problem,
                "; ".join(f"{a} ({label[a]}) and {b} ({label[b]})" for a, b in known[:SHOWN]),
                "; ..." if len(known) > SHOWN else "", known[0][1],
            )  # fmt: skip
