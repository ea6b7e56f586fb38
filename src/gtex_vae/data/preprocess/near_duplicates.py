"""Nearly identical samples: sequenced twice, renamed or listed twice.

Shape suffixes: n samples, g genes, p random projections.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from gtex_vae.data.genes.columns import Matrix
from gtex_vae.data.preprocess.gene_stats import gene_stats
from gtex_vae.data.preprocess.sample_stats import blocks

PROJECTIONS = 128
# limits time; a useful threshold finds far fewer
MAX_PAIRS = 200_000


def near_duplicates(x_ng: Matrix, samples: pd.Index, *, threshold: float = 0.98) -> pd.DataFrame:
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
