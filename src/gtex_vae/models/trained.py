"""A trained model with all that is needed to apply it: genes in order, standardization, weights.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import RunError
from gtex_vae.models.vae import VAE
from gtex_vae.paths import write_beside

FORMAT = 1


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
    """

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

    def save(self, folder: Path) -> None:
        """Write ``weights.safetensors`` and ``model.json``, whole or not at all."""
        from safetensors.torch import save

        description = {
            "format": FORMAT,
            "architecture": self.architecture,
            "standardize": self.scaler.settings,
            "unit": self.unit,
            "gene_ids": self.gene_ids,
            "gene_names": self.gene_names,
        }
        with write_beside(folder) as temporary:
            temporary.mkdir()
            weights = save({name: tensor.contiguous() for name, tensor in self.state_dict().items()})
            (temporary / "weights.safetensors").write_bytes(weights)
            (temporary / "model.json").write_text(json.dumps(description, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str) -> TrainedModel:
        """Read what `save` wrote.

        Raises
        ------
        RunError
            The folder is missing or incomplete, or the weights do not fit the description.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        try:
            description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
            weights = load_file(folder / "weights.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise RunError(f"{folder} holds no readable model: {error}") from error
        if description.get("format") != FORMAT:
            raise RunError(
                f"{folder}: format {description.get('format')} is not {FORMAT}, that of this version"
            )
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
        return model
