"""Principal component analysis: initialization and basis of the models, and baseline.

Shapes: n samples, g genes, d components. Everything is in units standardized with training statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gtex_vae.data.rows import RowMatrix, blocks_of
from gtex_vae.errors import RunError
from gtex_vae.files import write_beside

EXACT_BELOW = 1024
SUBSPACE_ITERATIONS = 30
IMPUTATION_ITERATIONS = 200
BLOCK, BLOCK_VALUES = 2048, 1 << 24  # maximum rows and values per block
GENES = 8192  # per block

Floats = NDArray[np.floating]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class PCA:
    """Principal components, used for reconstruction, embedding and imputation.

    Parameters
    ----------
    mean_g
        Training mean, shape (g,).
    components_dg
        Orthonormal components, the strongest first, shape (d, g). The largest loading of each is positive.
    variance_d
        Training variance along each component.
    noise
        Mean variance per direction orthogonal to the components: the maximum-likelihood noise variance of
        probabilistic PCA.

    References
    ----------
    Tipping, Bishop (1999), Probabilistic principal component analysis, J. R. Stat. Soc. B 61, equation 8.
    Halko, Martinsson, Tropp (2011), Finding structure with randomness, SIAM Review 53, algorithm 4.4.

    Examples
    --------
    >>> x_ng = np.outer([1.0, -2.0, 1.0], [3.0, 4.0])
    >>> pca = PCA.fit(x_ng, 1)
    >>> bool(np.allclose(pca.reconstruct(x_ng), x_ng))
    True
    """

    FILE: ClassVar[str] = "pca.safetensors"  # in the ``model`` folder of a run

    mean_g: Float32
    components_dg: Float32
    variance_d: Float32
    noise: float

    @classmethod
    def fit(cls, x_ng: RowMatrix, n_components: int, *, basis: int | None = None, seed: int = 0) -> PCA:
        """Fit the leading components.

        Small matrices, and fits of a large share of all components, use the exact eigenvectors of the smaller Gram matrix.
        Otherwise randomized subspace iteration needs a few passes over the matrix and no copy. It stops when the
        captured variance has converged, to an accuracy far below differences that metrics show.

        Parameters
        ----------
        x_ng
            Training samples, shape (n, g). They are centred without a copy, and read several times in blocks of rows.
        n_components
            Number of components. At most min(n - 1, g) exist and are returned.
        basis
            Return this many vectors if it is larger than ``n_components``. The additional ones span almost the maximum
            variance, but need not be principal components.
        seed
            Seed of the random initialization.

        Returns
        -------
        PCA
            The fitted components.
        """
        n, g = x_ng.shape
        leading = min(n_components, n - 1, g)
        d = min(max(n_components, basis or 0), n - 1, g)
        mean_g = sum(block_ng.sum(axis=0, dtype=np.float64) for _, block_ng in _blocks(x_ng)) / n
        total = sum(float(np.square(row - mean_g).sum()) for _, block_ng in _blocks(x_ng) for row in block_ng)
        if min(n, g) <= EXACT_BELOW or 4 * d >= min(n, g):
            components_dg, variance_d = _exact(np.asarray(x_ng[:]), mean_g, d)
        else:
            components_dg, variance_d = _subspace(x_ng, mean_g, leading, d, seed)
        largest_d = np.abs(components_dg).argmax(axis=1)
        components_dg *= np.sign(components_dg[np.arange(d), largest_d])[:, None]
        left = max(total / n - float(variance_d.sum()), 0.0) / max(g - d, 1)
        return cls(
            mean_g.astype(np.float32),
            np.ascontiguousarray(components_dg, dtype=np.float32),
            variance_d.astype(np.float32),
            left,
        )

    def leading(self, n_components: int) -> PCA:
        """Return the PCA of the first components."""
        dropped, g = self.variance_d[n_components:], len(self.mean_g)
        left = self.noise * (g - len(self.variance_d)) + float(dropped.sum())
        d = len(self.variance_d) - len(dropped)
        return PCA(self.mean_g, self.components_dg[:d], self.variance_d[:d], left / max(g - d, 1))

    def embed(self, x_ng: NDArray[np.floating]) -> Float32:
        """Compute scores on the components, not whitened, shape (n, d)."""
        scores_nd: Float32 = np.asarray(x_ng, dtype=np.float32) @ self.components_dg.T
        return scores_nd - self.components_dg @ self.mean_g

    def reconstruct(self, x_ng: Floats, observed_ng: NDArray[np.bool_] | None = None) -> Float32:
        r"""Project samples on the components, or impute hidden entries.

        Hidden entries are set to the mean, and then repeatedly to their projection until convergence. Each projection
        shrinks component d by :math:`(\lambda_d - \sigma^2) / \lambda_d`, so that the fixed point is the conditional mean
        of the hidden entries under probabilistic PCA. It is slightly better than least squares on the observed entries,
        and well-posed for any number of them.

        Parameters
        ----------
        x_ng
            Samples, shape (n, g). Values of hidden entries are ignored.
        observed_ng
            False where an entry is hidden. ``None``: all are observed.

        Returns
        -------
        ndarray of float32
            Reconstruction of every entry, shape (n, g).
        """
        if observed_ng is None:
            return self.embed(x_ng) @ self.components_dg + self.mean_g
        hidden_ng = ~observed_ng
        centred_ng = np.asarray(x_ng, dtype=np.float32) - self.mean_g
        centred_ng[hidden_ng] = 0
        known_nd = centred_ng @ self.components_dg.T
        shrink_d = np.clip(1 - self.noise / np.maximum(self.variance_d, 1e-12), 0, 1).astype(np.float32)
        z_nd: Floats = known_nd * shrink_d
        guess_ng: Float32 = np.empty_like(centred_ng)
        for _ in range(IMPUTATION_ITERATIONS):
            np.matmul(z_nd, self.components_dg, out=guess_ng)
            guess_ng *= hidden_ng
            next_nd = (known_nd + guess_ng @ self.components_dg.T) * shrink_d
            moved = np.linalg.norm(next_nd - z_nd)
            z_nd = next_nd
            if moved <= 1e-4 * np.linalg.norm(z_nd):
                break
        completed_ng: Float32 = np.matmul(z_nd, self.components_dg, out=guess_ng)
        completed_ng += self.mean_g
        return completed_ng

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        from safetensors.numpy import save

        arrays: dict[str, NDArray[np.generic]] = {
            "mean_g": self.mean_g,
            "components_dg": np.ascontiguousarray(self.components_dg),
            "variance_d": np.ascontiguousarray(self.variance_d),
            "noise": np.array([self.noise], dtype=np.float64),
        }
        with write_beside(path) as temporary:
            temporary.write_bytes(save(arrays))

    @classmethod
    def load(cls, path: Path) -> PCA:
        """Read the file of `save`.

        Raises
        ------
        RunError
            The file is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            arrays = load_file(path)
        except (OSError, SafetensorError) as error:
            raise RunError(f"{path} cannot be read: {error}. Delete it to fit the PCA again.") from error
        return cls(arrays["mean_g"], arrays["components_dg"], arrays["variance_d"], float(arrays["noise"][0]))


def _exact(x_ng: Floats, mean_g: Floats, d: int) -> tuple[Floats, Floats]:
    """Compute leading components and variances from the smaller Gram matrix."""
    from scipy.linalg import eigh

    n, g = x_ng.shape
    centred_ng = x_ng - mean_g
    wide = n < g
    gram = centred_ng @ centred_ng.T if wide else centred_ng.T @ centred_ng
    last = len(gram) - 1
    values_d, vectors = eigh(gram, subset_by_index=[last - d + 1, last], overwrite_a=True, check_finite=False)
    values_d = np.maximum(values_d[::-1], 0)
    components_dg = vectors[:, ::-1].T
    if wide:
        # QR keeps the components orthonormal, also directions without variance
        components_dg = np.linalg.qr((components_dg @ centred_ng).T)[0].T
    return np.ascontiguousarray(components_dg), values_d / n


def _subspace(x_ng: RowMatrix, mean_g: Floats, leading: int, d: int, seed: int) -> tuple[Floats, Floats]:
    """Compute d components and variances by subspace iteration until the leading ones converge."""
    n, g = x_ng.shape
    # a float64 mean would turn every product below into float64
    dtype = x_ng[:1].dtype
    mean_g = mean_g.astype(dtype)
    # twice the dimensions: convergence depends on the ratio of variances d and 2d, not d and d + 1
    width = min(max(2 * leading + 16, d), n, g)
    parts = [slice(start, start + GENES) for start in range(0, g, GENES)]
    # allocate permanent arrays first, so that temporary ones reuse the same memory
    scores_nq, basis_gq, captured = np.empty((n, width), dtype), np.empty((g, width), dtype), 0.0
    basis_gq[:] = np.random.default_rng(seed).standard_normal((g, width))
    _orthonormalise(basis_gq)
    for _ in range(SUBSPACE_ITERATIONS):
        centre_q = mean_g @ basis_gq
        for rows, block_ng in _blocks(x_ng):
            scores_nq[rows] = block_ng @ basis_gq - centre_q
        values_q, rotation_qq = np.linalg.eigh((scores_nq.T @ scores_nq).astype(np.float64))
        before, captured = captured, float(values_q[-leading:].sum())
        if captured - before <= 1e-5 * captured:
            break
        np.outer(mean_g, -scores_nq.sum(axis=0), out=basis_gq)
        for rows, block_ng in _blocks(x_ng):
            for genes in parts:
                basis_gq[genes] += block_ng[:, genes].T @ scores_nq[rows]
        _orthonormalise(basis_gq)
    rotation_qd = rotation_qq[:, : -d - 1 : -1]
    components_dg = np.empty((d, g), dtype)
    for genes in parts:
        components_dg[:, genes] = (basis_gq[genes] @ rotation_qd).T
    return components_dg, values_q[: -d - 1 : -1] / n


def _orthonormalise(basis_gq: Floats) -> None:
    """Orthonormalize the columns in place, in double precision with one copy."""
    from scipy.linalg import qr

    basis_gq[:] = qr(
        basis_gq.astype(np.float64, order="F"), overwrite_a=True, mode="economic", check_finite=False
    )[0]


def _blocks(x_ng: RowMatrix) -> Iterator[tuple[slice, Floats]]:
    """Yield slices and blocks of rows."""
    return blocks_of(x_ng, max(1, min(BLOCK, BLOCK_VALUES // x_ng.shape[1])))
