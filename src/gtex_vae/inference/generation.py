"""New profiles from a trained model: latent positions, decoded, with the noise of its likelihood.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions, ``t`` tissues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtex_vae.errors import ConfigError
from gtex_vae.inference.encoding import in_unit
from gtex_vae.inference.predictors import batches

if TYPE_CHECKING:
    from gtex_vae.inference.trained_model import TrainedModel


@dataclass(frozen=True)
class TissueGaussians:
    r"""Gaussian of each tissue, with the first two moments of the aggregate posterior of its training samples.

    .. math:: \frac1{n_t} \sum_{n \in t} q(z \mid x_n) \approx N(m_t, \Sigma_t), \qquad
        \Sigma_t = \frac{n_t S_t + d S}{n_t + d}

    The mixture itself would reproduce its training samples. :math:`S_t` is the covariance of the tissue plus that of
    the posteriors. It is shrunk towards S, the covariance within tissues, as by an inverse-Wishart prior with the
    weight of d samples.

    Parameters
    ----------
    names
        Tissues.
    count_t
        Numbers of training samples.
    mean_td, root_tdd
        Means, and square roots (Cholesky) of the covariances.
    """

    names: list[str]
    count_t: NDArray[np.intp]
    mean_td: NDArray[np.float64]
    root_tdd: NDArray[np.float64]

    @classmethod
    def fit(
        cls, mu_nd: NDArray[np.float32], var_nd: NDArray[np.float32] | None, tissues: Sequence[str]
    ) -> TissueGaussians:
        """Compute the moments from embedded training samples.

        Parameters
        ----------
        mu_nd, var_nd
            Posterior means and variances; None for embeddings without variances.
        tissues
            Tissue of each sample; none may be missing.
        """
        names, code_n = np.unique(np.asarray(tissues, dtype=str), return_inverse=True)
        n, d = mu_nd.shape
        count_t = np.bincount(code_n)
        mean_td = np.stack([mu_nd[code_n == t].mean(0, dtype=np.float64) for t in range(len(names))])
        within_nd = mu_nd - mean_td[code_n]
        scatter_tdd = np.stack([within_nd[code_n == t].T @ within_nd[code_n == t] for t in range(len(names))])
        if var_nd is not None:
            for t in range(len(names)):
                scatter_tdd[t] += np.diag(var_nd[code_n == t].sum(0, dtype=np.float64))
        pooled_dd = scatter_tdd.sum(0) / n
        covariance_tdd = (scatter_tdd + d * pooled_dd) / (count_t + d)[:, None, None]
        covariance_tdd += 1e-6 * np.trace(pooled_dd) / d * np.eye(d)
        return cls(names.tolist(), count_t, mean_td, np.linalg.cholesky(covariance_tdd))

    def shares(self, tissues: Sequence[str], n: int, random: np.random.Generator) -> NDArray[np.str_]:
        """Draw n tissues in the proportions of their training samples; all tissues if ``tissues`` is empty.

        Raises
        ------
        ConfigError
            The training samples have no such tissue.
        """
        chosen = np.array([self.names.index(known_tissue(name, self.names)) for name in tissues], dtype=int)
        chosen = chosen if len(chosen) else np.arange(len(self.names))
        weight = self.count_t[chosen] / self.count_t[chosen].sum()
        return np.array(self.names)[np.sort(random.choice(chosen, size=n, p=weight))]

    def draw(self, tissues: NDArray[np.str_], random: np.random.Generator) -> NDArray[np.float32]:
        """Draw a position for each tissue, shape (n, d)."""
        code_n = np.array([self.names.index(name) for name in tissues])
        noise_nd = random.standard_normal((len(code_n), self.mean_td.shape[1]))
        z_nd = self.mean_td[code_n]
        for t in np.unique(code_n):
            z_nd[code_n == t] += noise_nd[code_n == t] @ self.root_tdd[t].T
        return z_nd.astype(np.float32)


def known_tissue(name: str, names: Sequence[str]) -> str:
    """Check the name of a tissue.

    Raises
    ------
    ConfigError
        No such tissue; the message suggests the most similar name.
    """
    from gtex_vae.config import nearest

    if name not in names:
        raise ConfigError(f"tissues: the training samples have no {name!r}{nearest(name, names)}")
    return name


def between_positions(a_d: NDArray[np.float32], b_d: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Interpolate n positions in equal steps, both ends included.

    >>> between_positions(np.zeros(1, np.float32), np.ones(1, np.float32), 3).ravel().tolist()
    [0.0, 0.5, 1.0]
    """
    step_n1 = np.linspace(0, 1, n, dtype=np.float32)[:, None]
    return (1 - step_n1) * a_d + step_n1 * b_d


@torch.inference_mode()
def profiles(
    model: TrainedModel,
    z_nd: NDArray[np.float32],
    random: np.random.Generator | None,
    c_nk: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Draw expression (n, g) in the model's unit from p(x | z, c); its mean if ``random`` is None.

    The mean varies less than samples do: variation that no latent dimension explains is noise of the likelihood, in
    every gene, also outside the model's basis.
    """
    x_ng = np.empty((len(z_nd), model.vae.n_genes), dtype=np.float32)
    for rows, batch_nd in batches(z_nd):
        c = None if c_nk is None else _on_device(model, c_nk[rows])
        mean_ng = model.vae.decode(_on_device(model, batch_nd), c).float()
        drawn_ng = mean_ng if random is None else model.vae.likelihood.sample(mean_ng, random)
        x_ng[rows] = in_unit(model, model.scaler.inverse(drawn_ng))
    return x_ng


def _on_device(model: TrainedModel, array: NDArray[np.float32]) -> Tensor:
    """Return an array as a tensor on the model's device."""
    return torch.as_tensor(array, device=model.scaler.center_g.device)
