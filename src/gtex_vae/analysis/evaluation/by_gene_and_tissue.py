"""Reconstruction and imputation gene by gene and tissue by tissue, the model beside other methods.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.metrics.imputation import hidden_batches
from gtex_vae.inference.predictors import Reconstructor, for_rows

HIDDEN = 0.2
BATCH = 512


def by_gene_and_tissue(
    methods: Mapping[str, Reconstructor], x_ng: NDArray[np.float32], tissue: pd.Series, *, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    r"""R2 of every gene and of every tissue, with all entries given and with 20 % of them hidden.

    .. math:: 1 - \sum (x - \hat x)^2 / \sum (x - \bar x)^2

    over the gene's or the tissue's entries; :math:`\bar x` is their own held-out mean, and for hidden entries the
    training mean, which is what a hidden entry was set to.

    Parameters
    ----------
    methods
        Name to method.
    x_ng
        Held-out samples, standardized, shape (n, g).
    tissue
        Their tissues; samples without one are left out of the second table.
    seed
        Of the hidden entries, as for the metrics.

    Returns
    -------
    genes, tissues : DataFrame
        For each method ``r2_<name>`` and ``imputation_<name>``, a row per gene in order and one per tissue; the
        latter with ``samples`` in front.
    """
    from tqdm import tqdm

    n, g = x_ng.shape
    codes, names = pd.factorize(tissue, sort=True)
    genes: dict[str, NDArray[np.float64]] = {}
    tissues: dict[str, NDArray[np.float64]] = {}

    def add(key: str, values_ng: NDArray, rows: slice) -> None:
        genes.setdefault(key, np.zeros(g))
        tissues.setdefault(key, np.zeros(n))
        genes[key] += values_ng.sum(0, dtype=np.float64)
        tissues[key][rows] = values_ng.sum(1, dtype=np.float64)

    masks = hidden_batches(n, g, HIDDEN, seed=seed, batch_size=BATCH)
    starts = tqdm(range(0, n, BATCH), desc="genes and tissues", unit="batch", leave=False, disable=None)
    for start, hidden_ng in zip(starts, masks, strict=True):
        rows = slice(start, start + len(hidden_ng))
        batch_ng = np.ascontiguousarray(x_ng[rows])
        for key, values_ng in (("x", batch_ng), ("xx", batch_ng**2), ("hidden", batch_ng**2 * hidden_ng)):
            add(key, values_ng, rows)
        masked_ng = np.where(hidden_ng, np.float32(0), batch_ng)
        for name, whole in methods.items():
            method = for_rows(whole, rows)
            add(f"r2_{name}", (batch_ng - np.asarray(method.reconstruct(batch_ng))) ** 2, rows)
            imputed_ng = np.asarray(method.reconstruct(masked_ng, ~hidden_ng))
            add(f"imputation_{name}", (batch_ng - imputed_ng) ** 2 * hidden_ng, rows)

    kept = codes >= 0
    samples = np.bincount(codes[kept], minlength=len(names))
    of_tissues = {
        key: np.bincount(codes[kept], values[kept], minlength=len(names)).astype(np.float64)
        for key, values in tissues.items()
    }
    by_gene = _r2(genes, np.full(g, n))
    by_tissue = _r2(of_tissues, samples * g)
    by_tissue.index = pd.Index(names, name="tissue").astype(str)
    by_tissue.insert(0, "samples", samples)
    return by_gene, by_tissue


def _r2(sums: Mapping[str, NDArray[np.float64]], entries: NDArray) -> pd.DataFrame:
    """R2 from squared errors and spreads; missing where nothing varies."""
    spread = sums["xx"] - sums["x"] ** 2 / np.maximum(entries, 1)
    spreads = {"r2": spread, "imputation": sums["hidden"]}
    columns = {}
    for key, squared in sums.items():
        kind = key.partition("_")[0]
        if kind in spreads:
            ratio = np.divide(
                squared, spreads[kind], out=np.full(len(squared), np.nan), where=spreads[kind] > 1e-9
            )
            columns[key] = 1 - ratio
    return pd.DataFrame(columns)
