"""A trained model with all that is needed to apply it: genes in order, standardization, weights.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import RunError
from gtex_vae.models.saved import read_part, write_part
from gtex_vae.models.vae import VAE

if TYPE_CHECKING:
    from anndata import AnnData

FORMAT, DESCRIPTION = 1, "model.json"


class TrainedModel(nn.Module):
    """VAE, scaler and genes.

    Parameters
    ----------
    vae, scaler
        The parts, fitted.
    gene_ids, gene_names
        Ensembl ids without version and symbols, in the order of the input.
    unit
        Unit of expression before standardizing.
    architecture
        Arguments of `VAE` without ``n_genes``, plain.

    Attributes
    ----------
    origin
        Folder that it was loaded from; empty for a model that was not.
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
    ) -> None:
        super().__init__()
        self.vae, self.scaler = vae, scaler
        self.gene_ids, self.gene_names = list(gene_ids), list(gene_names)
        self.unit, self.architecture = unit, architecture
        self.eval()

    @torch.inference_mode()
    def embed(self, x_ng: np.ndarray, observed_ng: np.ndarray | None = None) -> np.ndarray:
        """Posterior means (n, d) of standardized expression (n, g)."""
        return self.vae.embed(*self._tensors(x_ng, observed_ng)).cpu().numpy()

    @torch.inference_mode()
    def reconstruct(self, x_ng: np.ndarray, observed_ng: np.ndarray | None = None) -> np.ndarray:
        """Decoded posterior means (n, g), standardized; entries with ``observed_ng`` False are imputed."""
        return self.vae.reconstruct(*self._tensors(x_ng, observed_ng)).cpu().numpy()

    def _tensors(self, *arrays: np.ndarray | None) -> Iterator[Any]:
        """Arrays on the model's device."""
        device = self.scaler.center_g.device
        return (None if array is None else torch.as_tensor(array, device=device) for array in arrays)

    def encode(
        self, adata: AnnData, *, unit: str | None = None, sd: bool = False, impute: bool = False
    ) -> AnnData:
        """Embed an AnnData of samples x genes: posterior means, never samples of the posterior.

        Genes are matched by id or symbol, the unit is recognised and converted, genes that the data does not have
        are filled with the training mean, and what was done is in ``uns["embedding"]``.

        Parameters
        ----------
        adata
            Processed or raw, dense, sparse or backed.
        unit
            One of `gtex_vae.data.readers.UNITS`, where neither ``uns["expression"]["unit"]`` nor the values tell it.
        sd
            Add ``layers["sd"]``, the posterior standard deviations.
        impute
            Fill missing genes with what the model predicts from the others, not with their training mean.

        Returns
        -------
        AnnData
            n x d, with the ``obs`` of ``adata``; ``obsm["projection"]`` where the run has a contrastive part (see
            `gtex_vae.models.projector.find_projector`).

        Raises
        ------
        DataError
            Too few of the model's genes, or a unit that cannot be told or converted.
        """
        from gtex_vae.models.embeddings import encode_anndata

        return encode_anndata(self, adata, unit=unit, sd=sd, impute=impute)

    def impute(self, adata: AnnData, *, unit: str | None = None) -> AnnData:
        """Expression of all of the model's genes in its unit: as measured, or predicted where the data has none.

        Parameters
        ----------
        adata, unit
            See `encode`.

        Returns
        -------
        AnnData
            n x g, with the ``obs`` of ``adata``, ``var["measured"]``, and in ``layers["reconstruction"]`` the model's
            own idea of every gene.
        """
        from gtex_vae.models.embeddings import impute_anndata

        return impute_anndata(self, adata, unit=unit)

    def export(self, path: Path | str) -> None:
        """Write a ``torch.export`` program of the encoder: see `gtex_vae.models.export`."""
        from gtex_vae.models.export import export

        export(self, Path(path))

    @property
    def digest(self) -> str:
        """Hex sha256 of weights, genes, scaler and architecture, wherever the model lies."""
        digest = hashlib.sha256(json.dumps(self._description()).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy())
        return digest.hexdigest()

    def _description(self) -> dict[str, Any]:
        """Everything but the weights."""
        return {
            "format": FORMAT,
            "architecture": self.architecture,
            "standardize": self.scaler.settings,
            "unit": self.unit,
            "gene_ids": self.gene_ids,
            "gene_names": self.gene_names,
        }

    def save(self, folder: Path) -> None:
        """Write ``weights.safetensors`` and ``model.json``, whole or not at all."""
        write_part(folder, DESCRIPTION, self._description(), self.state_dict())

    @classmethod
    def load(cls, folder: Path | str) -> TrainedModel:
        """Read what `save` wrote.

        Raises
        ------
        RunError
            The folder is missing or incomplete, or the weights do not fit the description.
        """
        folder = Path(folder)
        description, weights = read_part(folder, DESCRIPTION, "model", FORMAT)
        n_genes = len(description["gene_ids"])
        model = cls(
            VAE(n_genes, **description["architecture"]),
            Standardizer(n_genes, **description["standardize"]),
            gene_ids=description["gene_ids"],
            gene_names=description["gene_names"],
            unit=description["unit"],
            architecture=description["architecture"],
        )
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise RunError(
                f"{folder}: the weights do not fit model.json: {str(error).splitlines()[0]}"
            ) from error
        model.origin = str(folder)
        return model
