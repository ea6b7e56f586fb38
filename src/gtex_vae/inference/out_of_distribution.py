"""Out-of-distribution score and verdict of each sample.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions, ``k`` of their principal components, ``m`` training and
``v`` validation samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

VERDICTS = ("well inside", "at the edge", "outside")
EDGE, OUTSIDE = 0.95, 0.995  # quantiles of the scores of validation donors
NEIGHBOURS, REGION = 5, 15
COMPONENTS = 128  # of the embedding, for distances; all of them if it has fewer dimensions
SHARE = 0.1  # maximum share of one gene in the mean squared residual; limits genes that are normally not expressed
LEAST_LIMIT = (
    5.0  # minimum clipping limit of a residual divided by its gene's root mean square, for few genes
)
FEWEST = 10
BLOCK = 1024  # samples per block of the distance matrix

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SeenSamples:
    r"""Training embeddings, and reconstruction errors of validation donors, as reference for new samples.

    Two measures of a sample are compared with their values in its region of the embedding. The misfit is

    .. math:: e_n = \ln \frac{1}{G} \sum_g (r_{ng} / s_g)^2

    where residuals are divided by the gene's root mean square over validation donors, minus its mean over the 15
    nearest validation samples. Too low a misfit counts as well: averages of many samples are smoother than any sample.
    The isolation is the log mean distance to the five nearest training samples, minus the same of these five (a local
    density ratio, as in the local outlier factor).

    Both are divided by their spread over validation donors (without a sample's own donor in its region). The larger one
    is the score, scaled to 1 at the 95 % quantile of validation donors, the *edge*. Samples beyond their 99.5 %
    quantile are *outside*.

    Parameters
    ----------
    basis_dk
        Principal axes of the training embeddings.
    train_mk, valid_vk
        Training and validation embeddings on these axes.
    density_m
        Log mean distance of each training sample to its five nearest.
    misfit_v
        Misfit :math:`e` of the validation samples.
    rms_g
        Root mean square residual of each gene over validation samples, standardized units.
    spread
        Median, and its distance from the 16 % and 84 % quantiles, of misfit and isolation: shape (2, 3).
    score_v
        Scores of the validation samples, sorted.

    References
    ----------
    Breunig et al. (2000), LOF: identifying density-based local outliers. Nalisnick et al. (2019), Do deep generative
    models know what they don't know?, on why a likelihood alone is not sufficient.
    """

    basis_dk: NDArray[np.float32]
    train_mk: NDArray[np.float32]
    valid_vk: NDArray[np.float32]
    density_m: Array
    misfit_v: Array
    rms_g: Array
    spread: Array
    score_v: Array

    @classmethod
    def fit(
        cls,
        z_train_md: NDArray[np.floating],
        z_valid_vd: NDArray[np.floating],
        residual_vg: NDArray[np.floating],
        donors: Sequence[object] | NDArray | pd.Series,
    ) -> SeenSamples:
        """Fit to training embeddings and to the residuals of validation donors.

        Parameters
        ----------
        z_train_md, z_valid_vd
            Posterior means, shapes (m, d) and (v, d).
        residual_vg
            Standardized expression less its reconstruction, shape (v, g).
        donors
            Donor of each validation sample.
        """
        centred_md = np.asarray(z_train_md, dtype=np.float64) - z_train_md.mean(axis=0, dtype=np.float64)
        _, basis_dd = np.linalg.eigh(centred_md.T @ centred_md)
        basis_dk = basis_dd[:, ::-1][:, :COMPONENTS].astype(np.float32)
        train_mk, valid_vk = (np.asarray(z, dtype=np.float32) @ basis_dk for z in (z_train_md, z_valid_vd))
        rms_g = usual_residual(residual_vg)
        misfit_v = misfit(residual_vg, rms_g)
        density_m = np.log(_distances(train_mk, train_mk, NEIGHBOURS + 1)[0][:, 1:].mean(axis=1) + 1e-12)
        seen = cls(basis_dk, train_mk, valid_vk, density_m, misfit_v, rms_g, np.zeros((2, 3)), np.zeros(1))
        # samples of one donor are not independent, so they do not count in each other's region
        donor_v = pd.factorize(np.asarray(donors, dtype=object), use_na_sentinel=False)[0]
        usual_v = seen._usual(valid_vk, donor_v if donor_v.max() > 0 else None)
        parts = np.column_stack([misfit_v - usual_v, seen._isolation(valid_vk)])
        low, middle, high = np.quantile(parts, (0.16, 0.5, 0.84), axis=0)
        seen.spread[:] = np.column_stack(
            [middle, np.maximum(middle - low, 1e-6), np.maximum(high - middle, 1e-6)]
        )
        score_v = np.sort(seen._combine(parts))
        return cls(basis_dk, train_mk, valid_vk, density_m, misfit_v, rms_g, seen.spread, score_v)

    def score_samples(
        self,
        z_nd: NDArray[np.floating],
        residual_ng: NDArray[np.floating],
        present_g: NDArray[np.bool_] | None = None,
    ) -> pd.DataFrame:
        """Score samples.

        Parameters
        ----------
        z_nd
            Posterior means, shape (n, d).
        residual_ng
            Standardized expression less its reconstruction, shape (n, g).
        present_g
            Measured genes; only they count.

        Returns
        -------
        DataFrame
            A row per sample: ``score`` (1 at the edge), ``percentile`` (validation samples with a lower score),
            ``verdict`` (one of `VERDICTS`), and ``misfit`` and ``isolation`` in units of their spread.
        """
        z_nk = np.asarray(z_nd, dtype=np.float32) @ self.basis_dk
        parts = np.column_stack(
            [misfit(residual_ng, self.rms_g, present_g) - self._usual(z_nk), self._isolation(z_nk)]
        )
        score_n = self._combine(parts)
        edge, outside = np.quantile(self.score_v, (EDGE, OUTSIDE))
        standard = self._standard(parts)
        verdicts = np.array(VERDICTS)[(score_n > edge).astype(int) + (score_n > outside)]
        return pd.DataFrame(
            {
                "score": score_n / max(edge, 1e-12),
                "percentile": 100 * np.searchsorted(self.score_v, score_n) / len(self.score_v),
                "verdict": pd.Categorical(verdicts, categories=VERDICTS),
                "misfit": standard[:, 0],
                "isolation": standard[:, 1],
            }
        )

    def _usual(self, z_nk: NDArray[np.float32], donor_v: NDArray[np.intp] | None = None) -> Array:
        """Mean misfit of the nearest validation samples; with ``donor_v``, of those of other donors."""
        usual_n = np.empty(len(z_nk))
        for start in range(0, len(z_nk), BLOCK):
            rows = slice(start, start + BLOCK)
            distance_nv = _squared(z_nk[rows], self.valid_vk)
            if donor_v is not None:
                distance_nv[donor_v[rows, None] == donor_v] = np.inf
            near = np.argsort(distance_nv, axis=1, kind="stable")[:, :REGION]
            weight = np.isfinite(np.take_along_axis(distance_nv, near, axis=1))
            usual_n[rows] = (self.misfit_v[near] * weight).sum(axis=1) / weight.sum(axis=1)
        return usual_n

    def _isolation(self, z_nk: NDArray[np.float32]) -> Array:
        """Log density ratio to the nearest training samples."""
        distance, near = _distances(z_nk, self.train_mk, NEIGHBOURS)
        return np.asarray(np.log(distance.mean(axis=1) + 1e-12) - self.density_m[near].mean(axis=1))

    def _standard(self, parts: Array) -> Array:
        """Divide by the spread over validation donors, below or above the median."""
        middle, below, above = self.spread.T
        return np.asarray((parts - middle) / np.where(parts < middle, below, above))

    def _combine(self, parts: Array) -> Array:
        """Return the larger part; the misfit counts in both directions."""
        standard = self._standard(parts)
        return np.maximum(np.abs(standard[:, 0]), standard[:, 1])


def usual_residual(residual_ng: NDArray[np.floating]) -> Array:
    """Compute the root mean square residual of each gene, shape (g,), at least a tenth of the median gene's."""
    rms_g = np.sqrt(np.square(residual_ng, dtype=np.float64).mean(axis=0))
    return np.asarray(np.maximum(rms_g, max(0.1 * float(np.median(rms_g)), 1e-6)))


def misfit(
    residual_ng: NDArray[np.floating], rms_g: Array, present_g: NDArray[np.bool_] | None = None
) -> Array:
    """Compute the log mean squared residual of each sample, in units of each gene's root mean square.

    Examples
    --------
    >>> misfit(np.array([[1.0, 2.0], [2.0, 4.0]]), np.array([1.0, 2.0])).round(4).tolist()
    [0.0, 1.3863]
    """
    if present_g is not None:
        residual_ng, rms_g = residual_ng[:, present_g], rms_g[present_g]
    limit = max(LEAST_LIMIT, float(np.sqrt(SHARE * len(rms_g))))
    scaled_ng = np.clip(residual_ng / rms_g.astype(np.float32), -limit, limit)
    return np.log(np.einsum("ng,ng->n", scaled_ng, scaled_ng, dtype=np.float64) / len(rms_g) + 1e-12)


def sentence(verdicts: pd.Series) -> str:
    """Summarise verdicts in one sentence, with advice.

    >>> sentence(pd.Series(["outside"] * 3 + ["well inside"]))
    '3 of 4 samples (75 %) are outside what the model has seen: do not rely on their embeddings; 1 well inside'
    """
    counts = verdicts.value_counts()
    n, inside, edge, outside = len(verdicts), *(int(counts.get(verdict, 0)) for verdict in VERDICTS)
    rest = [f"{count} {verdict}" for count, verdict in ((inside, VERDICTS[0]), (edge, VERDICTS[1])) if count]
    if outside > 0.05 * n:
        first = f"{outside} of {n} samples ({outside / n:.0%})".replace("%", " %")
        meaning = "do not rely on their embeddings" if outside > 0.5 * n else "look at them before using them"
        return "; ".join([f"{first} are outside what the model has seen: {meaning}", *rest])
    if inside >= 0.8 * n:
        odd = f"; {edge} at the edge, {outside} outside" if edge or outside else ""
        return f"the samples are well inside what the model has seen ({inside} of {n}{odd})"
    return f"many samples are at the edge of what the model has seen: {edge} of {n}; {inside} well inside, {outside} outside"


def summary(judged: pd.DataFrame) -> dict[str, float]:
    """Count the verdicts and compute the median score, as metrics ``out_of_distribution/...``."""
    counts = {
        f"out_of_distribution/{verdict.replace(' ', '_')}": int((judged["verdict"] == verdict).sum())
        for verdict in VERDICTS
    }
    return {**counts, "out_of_distribution/median_score": float(judged["score"].median())}


def _squared(a_nk: NDArray[np.float32], b_mk: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute squared distances of all pairs."""
    squared = (
        np.square(a_nk).sum(axis=1)[:, None]
        + np.square(b_mk).sum(axis=1)[None]
        - np.float32(2) * (a_nk @ b_mk.T)
    )
    return np.maximum(squared, np.float32(0))


def _distances(
    a_nk: NDArray[np.float32], b_mk: NDArray[np.float32], count: int
) -> tuple[Array, NDArray[np.intp]]:
    """Find distances and positions of the nearest rows of b, nearest first."""
    from sklearn.neighbors import NearestNeighbors

    finder = NearestNeighbors(n_neighbors=min(count, len(b_mk)), algorithm="brute").fit(b_mk)
    distance, near = finder.kneighbors(a_nk)
    return distance, near
