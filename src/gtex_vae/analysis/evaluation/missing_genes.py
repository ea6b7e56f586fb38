"""Methods applied to samples that lack some of their genes.

Shapes: ``n`` samples, ``g`` genes of the method, ``p`` genes of the samples.
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
    """Method that is given, and predicts, only some of its genes.

    Parameters
    ----------
    method
        Method that reconstructs all g genes from the observed ones.
    present_g
        Genes of the samples.
    """

    method: Reconstructor
    present_g: NDArray[np.bool_]

    def reconstruct(
        self, x_np: NDArray[np.float32], observed_np: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Reconstruct the genes of the samples, shape (n, p); see `Reconstructor`."""
        x_hat_ng = self._all(x_np, observed_np)
        return np.ascontiguousarray(x_hat_ng[:, self.present_g])

    def with_covariates(self, obs: pd.DataFrame) -> OnPresentGenes:
        """See `gtex_vae.inference.predictors.Conditional`."""
        return replace(self, method=with_covariates(self.method, obs))

    def for_rows(self, rows: slice) -> OnPresentGenes:
        """See `gtex_vae.inference.predictors.Conditional`."""
        return replace(self, method=for_rows(self.method, rows))

    def predict_missing(self, x_np: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return samples with the missing genes predicted, shape (n, g)."""
        whole_ng = np.array(self._all(x_np, None), dtype=np.float32)
        whole_ng[:, self.present_g] = x_np
        return whole_ng

    def _all(self, x_np: NDArray[np.float32], observed_np: NDArray[np.bool_] | None) -> NDArray[np.float32]:
        """Reconstruct all genes."""
        x_ng = np.zeros((len(x_np), len(self.present_g)), dtype=np.float32)
        x_ng[:, self.present_g] = x_np
        observed_ng = np.tile(self.present_g, (len(x_np), 1))
        if observed_np is not None:
            observed_ng[:, self.present_g] = observed_np
        return np.asarray(self.method.reconstruct(x_ng, observed_ng))


@dataclass(frozen=True)
class EmbedderOnPresentGenes(OnPresentGenes):
    """`OnPresentGenes` for a method that embeds; it embeds samples with all genes unchanged."""

    method: Embedder

    def embed(self, x_ng: NDArray[np.float32]) -> Any:
        """Embed samples with all genes or with ``present_g``, shape (n, d)."""
        return self.method.embed(x_ng if x_ng.shape[1] == len(self.present_g) else self.predict_missing(x_ng))


def on_present_genes(method: Reconstructor, present_g: NDArray[np.bool_]) -> Reconstructor:
    """Wrap a method in `OnPresentGenes`; return it unchanged if no gene is missing."""
    if present_g.all():
        return method
    if isinstance(method, Embedder):
        return EmbedderOnPresentGenes(method, present_g)
    return OnPresentGenes(method, present_g)
