"""R2 of reconstruction and imputation for each gene and tissue, of several methods.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.evaluation.score import score_reconstruction
from gtex_vae.inference.intervals import RATE
from gtex_vae.inference.predictors import Floats, Reconstructor


class SquaredErrors:
    r"""Collector of squared errors by gene and by sample; an `OnPrediction` callback.

    Entries count for reconstruction if none are hidden, and for imputation if they are among the 20 % that are.

    .. math:: R^2 = 1 - \sum (x - \hat x)^2 / \sum (x - \bar x)^2

    over the entries of a gene or tissue. :math:`\bar x` is their held-out mean for reconstruction, and the training
    mean for imputation, because hidden entries are set to it.

    Parameters
    ----------
    shape
        Numbers of samples and genes.
    names
        Prefix of the methods to collect, to their name in the tables.
    """

    def __init__(self, shape: tuple[int, int], names: Mapping[str, str]) -> None:
        self.names = dict(names)
        self._n, self._g = shape
        self._of_genes: dict[str, NDArray[np.float64]] = {}
        self._of_samples: dict[str, NDArray[np.float64]] = {}

    def __call__(
        self, prefix: str, rate: float, rows: slice, x_ng: Floats, x_hat_ng: Floats, hidden_ng: NDArray | None
    ) -> None:
        """See `gtex_vae.analysis.evaluation.score.OnPrediction`."""
        if prefix not in self.names or rate not in (0.0, RATE):
            return
        squared_ng = (x_ng - x_hat_ng) ** 2
        first = prefix == next(iter(self.names))
        if hidden_ng is None:
            self._add(f"r2_{self.names[prefix]}", squared_ng, rows)
            if first:
                self._add("x", x_ng, rows)
                self._add("xx", x_ng**2, rows)
        else:
            self._add(f"imputation_{self.names[prefix]}", squared_ng * hidden_ng, rows)
            if first:
                self._add("hidden", x_ng**2 * hidden_ng, rows)

    def _add(self, key: str, values_ng: NDArray, rows: slice) -> None:
        """Add a batch to the sums."""
        self._of_genes.setdefault(key, np.zeros(self._g))
        self._of_samples.setdefault(key, np.zeros(self._n))
        self._of_genes[key] += values_ng.sum(0, dtype=np.float64)
        self._of_samples[key][rows] = values_ng.sum(1, dtype=np.float64)

    def tables(self, tissue: pd.Series) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Compute R2 by gene and by tissue.

        Parameters
        ----------
        tissue
            Tissues of the samples; samples without one count in the first table only.

        Returns
        -------
        genes, tissues : DataFrame
            Columns ``r2_<name>`` and ``imputation_<name>`` of each method, a row per gene in order and one per tissue;
            the latter starts with ``samples``.
        """
        codes, names = pd.factorize(tissue, sort=True)
        kept = codes >= 0
        samples = np.bincount(codes[kept], minlength=len(names))
        of_tissues = {
            key: np.bincount(codes[kept], values[kept], minlength=len(names)).astype(np.float64)
            for key, values in self._of_samples.items()
        }
        by_gene = _r2(self._of_genes, np.full(self._g, self._n))
        by_tissue = _r2(of_tissues, samples * self._g)
        by_tissue.index = pd.Index(names, name="tissue").astype(str)
        by_tissue.insert(0, "samples", samples)
        return by_gene, by_tissue


def by_gene_and_tissue(
    methods: Mapping[str, Reconstructor], x_ng: Floats, tissue: pd.Series, *, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compute R2 by gene and by tissue, with all entries given and with 20 % of them hidden; see `SquaredErrors`.

    Parameters
    ----------
    methods
        Name to method; a conditional model with the covariates of the samples.
    x_ng
        Held-out samples, standardized, shape (n, g).
    tissue
        Their tissues.
    seed
        Seed of the hidden entries, as for the metrics.
    """
    errors = SquaredErrors((len(x_ng), x_ng.shape[1]), {name: name for name in methods})
    score_reconstruction(methods, x_ng, seed=seed, rates=(RATE,), on_prediction=errors)
    return errors.tables(tissue)


def _r2(sums: Mapping[str, NDArray[np.float64]], entries: NDArray) -> pd.DataFrame:
    """R2 from squared errors and spreads; NaN for constant expression."""
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
