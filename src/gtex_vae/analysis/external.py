"""A matrix from elsewhere, brought to a model's genes so that it can be scored like held-out donors.

Shapes: ``n`` samples, ``g`` the model's genes, ``p`` those of them that the matrix has.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.score import Embedder, Reconstructor
from gtex_vae.data.align import MIN_OVERLAP
from gtex_vae.data.annotations import annotate
from gtex_vae.data.model_input import wanted_genes
from gtex_vae.data.readers.backed import open_matrix
from gtex_vae.models.embedding import model_input
from gtex_vae.models.trained import TrainedModel

log = logging.getLogger(__name__)

BATCH = 512


@dataclass(frozen=True)
class External:
    """Samples of another matrix.

    Parameters
    ----------
    x_np
        Standardized expression of the genes that the matrix has, float32.
    present_g
        Which of the model's genes these are.
    obs
        Annotations, as preprocess would make them, by sample id.
    report
        What ``alignment.json`` says.
    """

    x_np: NDArray[np.float32]
    present_g: NDArray[np.bool_]
    obs: pd.DataFrame
    report: dict[str, Any]


def read_external(
    model: TrainedModel,
    path: str,
    *,
    annotations: Sequence[str] = (),
    unit: str | None = None,
    orientation: str | None = None,
    layer: str | None = None,
    min_overlap: float = MIN_OVERLAP,
) -> External:
    """Read a matrix and align it to a model.

    Parameters
    ----------
    model
        Trained model.
    path, unit, orientation, layer
        See `gtex_vae.data.readers.read_matrix`.
    annotations
        Tables with a column of sample or donor ids; what the matrix holds itself comes first.
    min_overlap
        Share of the model's genes that the matrix must have.

    Raises
    ------
    DataError
        The matrix or a table cannot be used; the message says why.
    """
    keep = wanted_genes(model.gene_ids, model.gene_names)
    with open_matrix(path, keep_gene=keep, unit=unit, orientation=orientation, layer=layer) as matrix:
        data = model_input(model, matrix, impute=False, min_overlap=min_overlap)
        obs, report = annotate(matrix.sample_ids, annotations, own=matrix.obs)
        present_g = data.present_g
        x_np = np.empty((len(data), int(present_g.sum())), dtype=np.float32)
        for rows, x_ng in data.blocks(BATCH):
            x_np[rows] = model.scaler.apply_(np.ascontiguousarray(x_ng, dtype=np.float32).copy())[
                :, present_g
            ]
    return External(x_np, present_g, obs, {**data.report, "annotations": report})


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


def fill_labels(obs: pd.DataFrame) -> pd.DataFrame:
    """Annotations with a ``tissue`` column, and every sample of unknown donor a donor of its own."""
    obs = obs.copy()
    if "tissue" not in obs:
        obs["tissue"] = pd.Series([None] * len(obs), index=obs.index, dtype=object)
    own = pd.Series(obs.index.astype(str), index=obs.index)
    donor = obs["donor"].astype(object) if "donor" in obs else own
    obs["donor"] = donor.where(donor.notna(), own)
    return obs


def say_known(obs: pd.DataFrame, train_obs: pd.DataFrame, model_tissues: set[str]) -> int:
    """Warn of samples that the model was trained on, and of tissues that it cannot know; count the former."""
    known = obs.index.astype(str).isin(train_obs.index.astype(str))
    donors = set(train_obs["donor"].dropna().astype(str))
    seen = known | obs["donor"].astype(str).isin(donors).to_numpy()
    if seen.any():
        log.warning(
            "%d of %d samples are of donors that the model was trained on: no figure here is of held-out donors",
            seen.sum(), len(seen),
        )  # fmt: skip
    tissues = set(obs["tissue"].dropna().astype(str))
    if tissues and not tissues & model_tissues:
        log.warning(
            "none of the tissues (%s, ...) is one that the model was trained on (%s, ...): tissue accuracies are null",
            ", ".join(sorted(tissues)[:3]), ", ".join(sorted(model_tissues)[:3]),
        )  # fmt: skip
    return int(seen.sum())
