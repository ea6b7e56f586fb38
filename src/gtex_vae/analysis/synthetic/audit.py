"""Do synthetic samples look like held-out donors, without being copies of the training samples?

Shapes: ``n``, ``m`` samples, ``g`` genes, ``c`` components. Expression is standardized with training statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.baselines import PCA
from gtex_vae.analysis.metrics.tissue import accuracy, expression_predict, labelled

Floats = NDArray[np.float32]

MOST_SAMPLES = 1000  # of each side of the discrepancy, whose cost is quadratic
GENES_CORRELATED = 1000
SPLITS_IN_HALVES = 50
COMPONENTS = 64
REAL = "training samples"  # the row that says what real donors reach


@dataclass(frozen=True)
class Profiles:
    """Samples to be judged.

    Parameters
    ----------
    x_ng
        Standardized expression.
    tissue
        Of each; empty (missing) where there is none.
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
    """Measure generated samples beside as many training samples: real ones, of other donors than the held-out.

    Parameters
    ----------
    generated
        Name to samples of each way of making them.
    train, train_donors
        Training samples and their donors.
    held_out, held_out_donors
        Held-out ones.
    seed
        Of the draws.

    Returns
    -------
    table : DataFrame
        A row for each way, and one for training samples. ``mmd2``: see `discrepancy`. ``variance``: median over genes of
        the variance, over that of the held-out samples. ``correlation``, ``correlation_within_tissues``: see
        `correlation_agreement`. ``tissue_accuracy``: of held-out samples, by logistic regression on expression,
        trained on these. ``nearest``, ``too_near``: see `nearness`.
    halves : float
        95 % quantile of the squared discrepancy between two halves of the held-out donors: beyond it, samples are not of
        the same distribution.
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
            "tissue_accuracy": _train_here_test_there(profiles, held_out),
            **near.of(profiles.x_ng, train_donors.iloc[rows] if real else None),
        }
    halves = kernel.between_halves(held_out_donors, random)
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("made_by"), halves


@dataclass(frozen=True)
class Kernel:
    r"""Maximum mean discrepancy from held-out samples under a Gaussian kernel.

    .. math:: \widehat{\mathrm{MMD}}{}^2 = \overline{k(x, x')} + \overline{k(y, y')} - 2\, \overline{k(x, y)}, \qquad
        k(x, y) = \exp(-\lVert x - y \rVert^2 / 2 s^2)

    without the pairs of a sample with itself, which makes it unbiased: about 0, on either side, for samples of the same
    distribution. s is the median distance of the held-out samples.

    Parameters
    ----------
    y_mg, rows
        Held-out samples, at most `MOST_SAMPLES`, and which of all they are.
    width
        2 s^2.
    k_mm
        The kernel among them.

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
        """Take the width from held-out samples."""
        rows = np.sort(random.permutation(len(y_mg))[:MOST_SAMPLES])
        y_mg = y_mg[rows]
        squared_mm = squared_distances(y_mg, y_mg)
        width = 2 * float(np.median(squared_mm[np.triu_indices(len(y_mg), 1)]))
        return cls(y_mg, rows, width, np.exp(-squared_mm / width))

    def discrepancy(self, x_ng: Floats) -> float:
        """Squared, of at most `MOST_SAMPLES` samples evenly spread over those given."""
        x_ng = x_ng[np.unique(np.linspace(0, len(x_ng) - 1, MOST_SAMPLES).astype(int))]
        k_nn = np.exp(-squared_distances(x_ng, x_ng) / self.width)
        k_nm = np.exp(-squared_distances(x_ng, self.y_mg) / self.width)
        return _off_diagonal_mean(k_nn) + _off_diagonal_mean(self.k_mm) - 2 * float(k_nm.mean())

    def between_halves(self, donors: pd.Series, random: np.random.Generator) -> float:
        """95 % quantile of the squared discrepancy between two halves of the donors, many times over."""
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
    """Gene-gene correlations of held-out samples: all of them together, and within tissues.

    Parameters
    ----------
    genes
        Those that are correlated, at most `GENES_CORRELATED` of those that vary.
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
        """Pearson correlation of these correlations with those of other samples; NaN without tissues."""
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
    """How far samples lie from the nearest training sample, beside how far held-out donors' samples do.

    In the leading principal components of the training samples: over all genes the noise of a copy would hide the copy.

    Parameters
    ----------
    pca
        Of the training samples.
    train_mc, donors_m
        Their scores and donors.
    usual
        Median distance of the held-out samples.
    low
        Its 5 % quantile.
    """

    pca: PCA
    train_mc: Floats
    donors_m: NDArray[np.str_]
    usual: float
    low: float

    @classmethod
    def fit(cls, x_mg: Floats, donors: pd.Series, held_out_ng: Floats) -> Neighbourhood:
        """Measure the held-out samples."""
        pca = PCA.fit(x_mg, min(COMPONENTS, len(x_mg) - 1))
        train_mc = pca.embed(x_mg)
        distance_n = np.sqrt(squared_distances(pca.embed(held_out_ng), train_mc).min(axis=1))
        usual, low = float(np.median(distance_n)), float(np.quantile(distance_n, 0.05))
        return cls(pca, train_mc, donors.to_numpy(dtype=str), usual, low)

    def of(self, x_ng: Floats, donors: pd.Series | None = None) -> dict[str, float]:
        """Median distance over the held-out samples' (``nearest``), and the share nearer than 95 % of those (``too_near``).

        With the samples' own donors, only training samples of other donors count. A model that gives back its
        training samples has a ``nearest`` near 0 and a ``too_near`` near 1; real samples of other donors 1 and 0.05.
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
    """Squared distances of all pairs, shape (n, m)."""
    squared_nm = (
        np.square(a_nf).sum(axis=1)[:, None] + np.square(b_mf).sum(axis=1)[None] - 2 * (a_nf @ b_mf.T)
    )
    return np.maximum(squared_nm, np.float32(0))


def correlations(x_ng: Floats) -> Floats:
    """Correlations of all pairs of genes, each pair once; 0 with a gene that does not vary."""
    standard_ng = x_ng - x_ng.mean(axis=0)
    length_g = np.sqrt(np.square(standard_ng).sum(axis=0))
    standard_ng /= np.where(length_g > 1e-6, length_g, np.inf)
    return (standard_ng.T @ standard_ng)[np.triu_indices(x_ng.shape[1], 1)]


def _within_tissues(x_ng: Floats, tissue: pd.Series) -> Floats | None:
    """Correlations of what tissue means leave; None where no tissue has two samples."""
    known = labelled(tissue)
    code_n, names = pd.factorize(np.asarray(tissue, dtype=object)[known])
    if len(code_n) <= len(names):
        return None
    x_ng = x_ng[known]
    mean_tg = np.stack([x_ng[code_n == t].mean(axis=0) for t in range(len(names))])
    return correlations(x_ng - mean_tg[code_n])


def _train_here_test_there(profiles: Profiles, held_out: Profiles) -> float:
    """Accuracy of held-out samples' tissues, by a classifier trained on other samples; NaN where these have none."""
    known, asked = labelled(profiles.tissue), labelled(held_out.tissue)
    if not known.any() or not asked.any():
        return float("nan")
    predicted = expression_predict(profiles.x_ng[known], held_out.x_ng, profiles.tissue[known])
    return accuracy(predicted, held_out.tissue)


def _off_diagonal_mean(k_nn: Floats) -> float:
    n = len(k_nn)
    return float((k_nn.sum(dtype=np.float64) - np.trace(k_nn)) / (n * (n - 1)))


def _pearson(a: Floats, b: Floats) -> float:
    return float(np.corrcoef(a, b)[0, 1])
