"""Comparison of synthetic samples with held-out donors, and a check for copies of training samples.

Shapes: ``n``, ``m`` samples, ``g`` genes, ``c`` components. Expression is standardized with training statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.metrics.tissue import accuracy, expression_predict, labelled, several_classes
from gtex_vae.models.pca import PCA

Floats = NDArray[np.float32]

MOST_SAMPLES = 1000  # per side of the discrepancy, whose cost is quadratic
GENES_CORRELATED = 1000
SPLITS_IN_HALVES = 50
COMPONENTS = 64
REAL = "training samples"  # the row of real samples, for reference


@dataclass(frozen=True)
class Profiles:
    """Samples to audit.

    Parameters
    ----------
    x_ng
        Standardized expression.
    tissue
        Tissue of each sample; missing if unknown.
    """

    x_ng: Floats
    tissue: pd.Series


def audit(
    generated: Mapping[str, Profiles],
    train: Profiles,
    train_donors: pd.Series,
    held_out: Profiles,
    held_out_donors: pd.Series,
    *,
    seed: int = 0,
) -> tuple[pd.DataFrame, float]:
    """Compare generated samples, and equally many training samples, with held-out samples.

    Parameters
    ----------
    generated
        Name of a method to its samples.
    train, train_donors
        Training samples and their donors.
    held_out, held_out_donors
        Held-out samples and their donors.
    seed
        Seed of the draws.

    Returns
    -------
    table : DataFrame
        One row per method, and one for training samples. ``mmd2``: see `Kernel.discrepancy`. ``variance``: median over
        genes of the variance relative to held-out samples. ``correlation``, ``correlation_within_tissues``: see
        `Structure.agreement`. ``tissue_accuracy``: accuracy on held-out samples of a logistic regression trained on
        the method's samples. ``nearest``, ``too_near``: see `Neighbourhood.of`.
    halves : float
        95 % quantile of the squared discrepancy between two halves of the held-out donors; samples with a larger
        discrepancy have another distribution.
    """
    from tqdm import tqdm

    random = np.random.default_rng(seed)
    n = max(len(profiles.x_ng) for profiles in generated.values())
    rows = np.sort(random.permutation(len(train.x_ng))[:n])
    fewer = Profiles(train.x_ng[rows], train.tissue.iloc[rows])
    kernel = Kernel.fit(held_out.x_ng, random)
    structure = Structure.fit(held_out, random)
    near = Neighbourhood.fit(train.x_ng, train_donors, held_out.x_ng)
    variance_g = held_out.x_ng.var(axis=0)
    varies_g = variance_g > 1e-6
    table = {}
    for name, profiles in tqdm(
        [*generated.items(), (REAL, fewer)], desc="auditing", unit="set", leave=False, disable=None
    ):
        real = name == REAL
        table[name] = {
            "samples": len(profiles.x_ng),
            "mmd2": kernel.discrepancy(profiles.x_ng),
            "variance": float(np.median(profiles.x_ng.var(axis=0)[varies_g] / variance_g[varies_g])),
            **structure.agreement(profiles),
            "tissue_accuracy": _tissue_accuracy(profiles, held_out),
            **near.of(profiles.x_ng, train_donors.iloc[rows] if real else None),
        }
    halves = kernel.between_halves(held_out_donors, random)
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("made_by"), halves


@dataclass(frozen=True)
class Kernel:
    r"""Maximum mean discrepancy from held-out samples under a Gaussian kernel.

    .. math:: \widehat{\mathrm{MMD}}{}^2 = \overline{k(x, x')} + \overline{k(y, y')} - 2\, \overline{k(x, y)}, \qquad
        k(x, y) = \exp(-\lVert x - y \rVert^2 / 2 s^2)

    The means exclude pairs of a sample with itself, so the estimate is unbiased: it is about 0, positive or negative,
    for samples of the same distribution. s is the median distance between held-out samples.

    Parameters
    ----------
    y_mg, rows
        At most `MOST_SAMPLES` held-out samples, and their positions among all of them.
    width
        2 s^2.
    k_mm
        Kernel between them.

    References
    ----------
    Gretton et al. (2012), A Kernel Two-Sample Test, equation 3.
    """

    y_mg: Floats
    rows: NDArray[np.intp]
    width: float
    k_mm: Floats

    @classmethod
    def fit(cls, y_mg: Floats, random: np.random.Generator) -> Kernel:
        """Compute the width from held-out samples."""
        rows = np.sort(random.permutation(len(y_mg))[:MOST_SAMPLES])
        y_mg = y_mg[rows]
        squared_mm = squared_distances(y_mg, y_mg)
        width = 2 * float(np.median(squared_mm[np.triu_indices(len(y_mg), 1)]))
        return cls(y_mg, rows, width, np.exp(-squared_mm / width))

    def discrepancy(self, x_ng: Floats) -> float:
        """Compute the squared discrepancy of at most `MOST_SAMPLES` samples, taken at equal steps."""
        x_ng = x_ng[np.unique(np.linspace(0, len(x_ng) - 1, MOST_SAMPLES).astype(int))]
        k_nn = np.exp(-squared_distances(x_ng, x_ng) / self.width)
        k_nm = np.exp(-squared_distances(x_ng, self.y_mg) / self.width)
        return _off_diagonal_mean(k_nn) + _off_diagonal_mean(self.k_mm) - 2 * float(k_nm.mean())

    def between_halves(self, donors: pd.Series, random: np.random.Generator) -> float:
        """Return the 95 % quantile of the squared discrepancy between random halves of the donors."""
        donor_m = donors.to_numpy(dtype=str)[self.rows]
        names = np.unique(donor_m)
        found = []
        for _ in range(SPLITS_IN_HALVES):
            one = np.isin(donor_m, random.permutation(names)[: len(names) // 2])
            if min(one.sum(), (~one).sum()) > 1:
                k_aa, k_bb = self.k_mm[np.ix_(one, one)], self.k_mm[np.ix_(~one, ~one)]
                across = float(self.k_mm[np.ix_(one, ~one)].mean())
                found.append(_off_diagonal_mean(k_aa) + _off_diagonal_mean(k_bb) - 2 * across)
        return float(np.quantile(found, 0.95)) if found else float("nan")


@dataclass(frozen=True)
class Structure:
    """Gene-gene correlations of held-out samples, over all samples and within tissues.

    Parameters
    ----------
    genes
        At most `GENES_CORRELATED` of the genes that vary.
    whole, within
        Their correlations, each pair once.
    """

    genes: NDArray[np.intp]
    whole: Floats
    within: Floats | None

    @classmethod
    def fit(cls, held_out: Profiles, random: np.random.Generator) -> Structure:
        """Draw the genes and correlate them."""
        varies = np.flatnonzero(held_out.x_ng.std(axis=0) > 1e-3)
        genes = np.sort(random.permutation(varies)[:GENES_CORRELATED])
        x_ng = held_out.x_ng[:, genes]
        return cls(genes, correlations(x_ng), _within_tissues(x_ng, held_out.tissue))

    def agreement(self, profiles: Profiles) -> dict[str, float]:
        """Correlate (Pearson) these correlations with those of other samples; NaN within tissues if none is known."""
        x_ng = profiles.x_ng[:, self.genes]
        within = _within_tissues(x_ng, profiles.tissue)
        return {
            "correlation": _pearson(correlations(x_ng), self.whole),
            "correlation_within_tissues": float("nan")
            if within is None or self.within is None
            else _pearson(within, self.within),
        }


@dataclass(frozen=True)
class Neighbourhood:
    """Distance of samples to the nearest training sample, relative to that of held-out samples.

    Distances are computed in the leading principal components of the training samples: over all genes, noise would
    hide a copy.

    Parameters
    ----------
    pca
        PCA of the training samples.
    train_mc, donors_m
        Scores and donors of the training samples.
    usual
        Median distance of held-out samples.
    low
        5 % quantile of the distance of held-out samples.
    """

    pca: PCA
    train_mc: Floats
    donors_m: NDArray[np.str_]
    usual: float
    low: float

    @classmethod
    def fit(cls, x_mg: Floats, donors: pd.Series, held_out_ng: Floats) -> Neighbourhood:
        """Measure the distances of the held-out samples."""
        pca = PCA.fit(x_mg, min(COMPONENTS, len(x_mg) - 1))
        train_mc = pca.embed(x_mg)
        distance_n = np.sqrt(squared_distances(pca.embed(held_out_ng), train_mc).min(axis=1))
        usual, low = float(np.median(distance_n)), float(np.quantile(distance_n, 0.05))
        return cls(pca, train_mc, donors.to_numpy(dtype=str), usual, low)

    def of(self, x_ng: Floats, donors: pd.Series | None = None) -> dict[str, float]:
        """Compute the relative median distance (``nearest``) and the fraction of samples that are too near (``too_near``).

        A sample is too near if it is nearer to a training sample than 95 % of held-out samples. If the samples' donors
        are given, only training samples of other donors count. A model that copies its training samples has a
        ``nearest`` near 0 and a ``too_near`` near 1; real samples of other donors have 1 and 0.05.
        """
        squared_nm = squared_distances(self.pca.embed(x_ng), self.train_mc)
        if donors is not None:
            squared_nm[donors.to_numpy(dtype=str)[:, None] == self.donors_m[None]] = np.inf
        distance_n = np.sqrt(squared_nm.min(axis=1))
        return {
            "nearest": float(np.median(distance_n)) / self.usual,
            "too_near": float((distance_n < self.low).mean()),
        }


def squared_distances(a_nf: Floats, b_mf: Floats) -> Floats:
    """Compute squared distances of all pairs, shape (n, m)."""
    squared_nm = (
        np.square(a_nf).sum(axis=1)[:, None] + np.square(b_mf).sum(axis=1)[None] - 2 * (a_nf @ b_mf.T)
    )
    return np.maximum(squared_nm, np.float32(0))


def correlations(x_ng: Floats) -> Floats:
    """Compute correlations of all pairs of genes, each pair once; 0 for a gene that does not vary."""
    standard_ng = x_ng - x_ng.mean(axis=0)
    length_g = np.sqrt(np.square(standard_ng).sum(axis=0))
    standard_ng /= np.where(length_g > 1e-6, length_g, np.inf)
    return (standard_ng.T @ standard_ng)[np.triu_indices(x_ng.shape[1], 1)]


def _within_tissues(x_ng: Floats, tissue: pd.Series) -> Floats | None:
    """Compute correlations of the deviations from tissue means; None if no tissue has two samples."""
    known = labelled(tissue)
    code_n, names = pd.factorize(np.asarray(tissue, dtype=object)[known])
    if len(code_n) <= len(names):
        return None
    x_ng = x_ng[known]
    mean_tg = np.stack([x_ng[code_n == t].mean(axis=0) for t in range(len(names))])
    return correlations(x_ng - mean_tg[code_n])


def _tissue_accuracy(profiles: Profiles, held_out: Profiles) -> float:
    """Train a tissue classifier on ``profiles`` and return its accuracy on held-out samples; NaN without two tissues."""
    known = labelled(profiles.tissue)
    if not several_classes(profiles.tissue) or not labelled(held_out.tissue).any():
        return float("nan")
    predicted = expression_predict(profiles.x_ng[known], held_out.x_ng, profiles.tissue[known])
    return accuracy(predicted, held_out.tissue)


def _off_diagonal_mean(k_nn: Floats) -> float:
    n = len(k_nn)
    return float((k_nn.sum(dtype=np.float64) - np.trace(k_nn)) / (n * (n - 1)))


def _pearson(a: Floats, b: Floats) -> float:
    return float(np.corrcoef(a, b)[0, 1])
