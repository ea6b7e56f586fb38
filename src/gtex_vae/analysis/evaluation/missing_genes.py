"""Methods that have to do without some of their genes, as samples from elsewhere make them.

Shapes: ``n`` samples, ``g`` genes of the method, ``p`` those of them that there are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.inference.predictors import Embedder, Reconstructor, for_rows, with_covariates


@dataclass(frozen=True)
class OnPresentGenes:
    """A method that is given, and asked for, some of its genes only; it has to do without the others.

    Parameters
    ----------
    method
        Reconstructs all g genes from those that are observed.
    present_g
        Genes that there are.
    """

    method: Reconstructor
    present_g: NDArray[np.bool_]

    def reconstruct(
        self, x_np: NDArray[np.float32], observed_np: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Reconstruction of the genes that there are, shape (n, p); see `Reconstructor`."""
        x_hat_ng = self._all(x_np, observed_np)
        return np.ascontiguousarray(x_hat_ng[:, self.present_g])

    def with_covariates(self, obs: pd.DataFrame) -> OnPresentGenes:
        """See `gtex_vae.inference.predictors.Conditional`."""
        return replace(self, method=with_covariates(self.method, obs))

    def for_rows(self, rows: slice) -> OnPresentGenes:
        """See `gtex_vae.inference.predictors.Conditional`."""
        return replace(self, method=for_rows(self.method, rows))

    def complete(self, x_np: NDArray[np.float32]) -> NDArray[np.float32]:
        """Samples with the other genes as the method predicts them, shape (n, g)."""
        whole_ng = np.array(self._all(x_np, None), dtype=np.float32)
        whole_ng[:, self.present_g] = x_np
        return whole_ng

    def _all(self, x_np: NDArray[np.float32], observed_np: NDArray[np.bool_] | None) -> NDArray[np.float32]:
        """Reconstruction of all genes."""
        x_ng = np.zeros((len(x_np), len(self.present_g)), dtype=np.float32)
        x_ng[:, self.present_g] = x_np
        observed_ng = np.tile(self.present_g, (len(x_np), 1))
        if observed_np is not None:
            observed_ng[:, self.present_g] = observed_np
        return np.asarray(self.method.reconstruct(x_ng, observed_ng))


@dataclass(frozen=True)
class EmbedderOnPresentGenes(OnPresentGenes):
    """`OnPresentGenes` for a method that embeds; training samples with all genes it embeds as they are."""

    method: Embedder

    def embed(self, x_ng: NDArray[np.float32]) -> Any:
        """Embedding (n, d) of samples with all genes, or with those that there are."""
        return self.method.embed(x_ng if x_ng.shape[1] == len(self.present_g) else self.complete(x_ng))


def on_present_genes(method: Reconstructor, present_g: NDArray[np.bool_]) -> Reconstructor:
    """The method itself where no gene is missing, else behind `OnPresentGenes`."""
    if present_g.all():
        return method
    if isinstance(method, Embedder):
        return EmbedderOnPresentGenes(method, present_g)
    return OnPresentGenes(method, present_g)
