"""Trained model with everything needed to apply it: weights, standardization and genes.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions, ``k`` columns of the covariates' design.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import nn

from gtex_vae.data.counts import SIZE
from gtex_vae.data.covariates import Covariates
from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import RunError
from gtex_vae.models.storage import read_part, write_part
from gtex_vae.models.vae import VAE

if TYPE_CHECKING:
    import pandas as pd

FORMAT, DESCRIPTION = 1, "model.json"


class TrainedModel(nn.Module):
    """Trained VAE with its scaler and genes.

    Parameters
    ----------
    vae, scaler
        Trained network and fitted scaler.
    gene_ids, gene_names
        Ensembl ids without version and symbols, in the order of the input.
    unit
        Unit of expression before standardizing.
    architecture
        Arguments of `VAE` without ``n_genes``, plain.
    covariates
        Covariates of a conditional model.

    Attributes
    ----------
    origin
        Folder that the model was loaded from; otherwise empty.
    """

    origin = ""

    def __init__(
        self,
        vae: VAE,
        scaler: Standardizer,
        *,
        gene_ids: Sequence[str],
        gene_names: Sequence[str],
        unit: str,
        architecture: dict[str, Any],
        covariates: Covariates | None = None,
    ) -> None:
        super().__init__()
        self.vae, self.scaler = vae, scaler
        self.gene_ids, self.gene_names = list(gene_ids), list(gene_names)
        self.unit, self.architecture, self.covariates = unit, architecture, covariates
        self.eval()

    @torch.inference_mode()
    def embed(
        self, x_ng: np.ndarray, observed_ng: np.ndarray | None = None, c_nk: np.ndarray | None = None
    ) -> np.ndarray:
        """Posterior means (n, d) of standardized expression (n, g) and, in a conditional model, covariates (n, k)."""
        return self.vae.embed(*self._tensors(x_ng, observed_ng, c_nk)).cpu().numpy()

    @torch.inference_mode()
    def reconstruct(
        self, x_ng: np.ndarray, observed_ng: np.ndarray | None = None, c_nk: np.ndarray | None = None
    ) -> np.ndarray:
        """Decoded posterior means (n, g), standardized; entries with ``observed_ng`` False are imputed."""
        return self.vae.reconstruct(*self._tensors(x_ng, observed_ng, c_nk)).cpu().numpy()

    @torch.inference_mode()
    def posterior(self, x_ng: np.ndarray, c_nk: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Posterior means and log variances, each (n, d), of standardized expression (n, g)."""
        mu_nd, log_var_nd = self.vae.encode(*self._tensors(x_ng, c_nk))
        return mu_nd.float().cpu().numpy(), log_var_nd.float().cpu().numpy()

    def design(self, obs: pd.DataFrame) -> np.ndarray | None:
        """Design of the covariates (n, k) of annotated samples; None for a model without covariates."""
        return None if self.covariates is None else self.covariates.design(obs)

    def sizes(self, obs: pd.DataFrame) -> np.ndarray | None:
        """Size factors (n,) of samples; None without a likelihood of counts or without a column of sizes."""
        known = SIZE in obs and self.vae.likelihood.needs_size_factors
        return obs[SIZE].to_numpy(dtype=np.float32) if known else None

    def with_covariates(self, obs: pd.DataFrame) -> TrainedModel | ConditionedModel:
        """Return the model for annotated samples: a `ConditionedModel` if it is conditional, else itself."""
        c_nk = self.design(obs)
        return self if c_nk is None else self.conditioned_on(c_nk)

    def conditioned_on(self, c_nk: np.ndarray) -> ConditionedModel:
        """Return the conditional model for samples with these covariates (n, k)."""
        return ConditionedModel(self, c_nk)

    def for_rows(self, rows: slice) -> TrainedModel:
        """Return the model for some of the samples: itself."""
        return self

    def _tensors(self, *arrays: np.ndarray | None) -> Iterator[Any]:
        """Yield arrays as tensors on the model's device."""
        device = self.scaler.center_g.device
        return (None if array is None else torch.as_tensor(array, device=device) for array in arrays)

    @property
    def digest(self) -> str:
        """Hex sha256 of weights, genes, scaler and architecture; independent of the folder."""
        digest = hashlib.sha256(json.dumps(self._description()).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy())
        return digest.hexdigest()

    def _description(self) -> dict[str, Any]:
        """Describe everything except the weights."""
        covariates = {} if self.covariates is None else {"covariates": self.covariates.columns}
        return {
            "format": FORMAT,
            "architecture": self.architecture,
            "standardize": self.scaler.settings,
            "unit": self.unit,
            "gene_ids": self.gene_ids,
            "gene_names": self.gene_names,
            **covariates,
        }

    def save(self, folder: Path) -> None:
        """Write ``weights.safetensors`` and ``model.json`` atomically."""
        write_part(folder, DESCRIPTION, self._description(), self.state_dict())

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Load a saved model.

        Raises
        ------
        RunError
            The folder is missing or incomplete, or the weights do not fit the description.
        """
        folder = Path(folder)
        description, weights = read_part(folder, DESCRIPTION, "model", FORMAT)
        n_genes = len(description["gene_ids"])
        columns = description.get("covariates")
        covariates = None if columns is None else Covariates(columns)
        n_covariates = 0 if covariates is None else sum(covariates.widths)
        model = cls(
            VAE(n_genes, n_covariates=n_covariates, **description["architecture"]),
            Standardizer(n_genes, **description["standardize"]),
            gene_ids=description["gene_ids"],
            gene_names=description["gene_names"],
            unit=description["unit"],
            architecture=description["architecture"],
            covariates=covariates,
        )
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise RunError(
                f"{folder}: the weights do not fit model.json: {str(error).splitlines()[0]}"
            ) from error
        model.origin = str(folder)
        return model


@dataclass(frozen=True)
class ConditionedModel:
    """Conditional model with the covariates of its samples.

    Parameters
    ----------
    model
        Conditional model.
    c_nk
        Design of the covariates, in the order of the samples.
    """

    model: TrainedModel
    c_nk: np.ndarray

    def with_covariates(self, obs: pd.DataFrame) -> ConditionedModel | TrainedModel:
        """Return the model for other samples."""
        return self.model.with_covariates(obs)

    def for_rows(self, rows: slice) -> ConditionedModel:
        """Return the model for some of the samples."""
        return ConditionedModel(self.model, self.c_nk[rows])

    def embed(self, x_ng: np.ndarray, observed_ng: np.ndarray | None = None) -> np.ndarray:
        """See `TrainedModel.embed`."""
        return self.model.embed(x_ng, observed_ng, self.c_nk)

    def posterior(self, x_ng: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `TrainedModel.posterior`."""
        return self.model.posterior(x_ng, self.c_nk)

    def reconstruct(self, x_ng: np.ndarray, observed_ng: np.ndarray | None = None) -> np.ndarray:
        """See `TrainedModel.reconstruct`."""
        return self.model.reconstruct(x_ng, observed_ng, self.c_nk)
