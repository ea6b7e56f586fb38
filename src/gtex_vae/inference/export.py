"""Export of the encoder as a ``torch.export`` program that needs only PyTorch.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gtex_vae.files import write_beside

if TYPE_CHECKING:
    from gtex_vae.inference.trained_model import TrainedModel

GENES = "genes.json"


class ExpressionEncoder(nn.Module):
    """Module from expression in the model's unit (n, g) to posterior means (n, d), with standardization."""

    def __init__(self, model: TrainedModel) -> None:
        super().__init__()
        self.scaler, self.vae = model.scaler, model.vae

    def forward(self, x_ng: Tensor) -> Tensor:
        """Posterior means (n, d) of expression (n, g)."""
        return self.vae.embed(self.scaler(x_ng))


def export(model: TrainedModel, path: Path) -> None:
    """Write a ``.pt2`` program for the CPU that takes any number of samples.

    Its extra file ``genes.json`` contains ``gene_ids``, ``gene_names`` and ``unit`` of the input, and ``missing``: values
    for unmeasured genes, their training means.

    Parameters
    ----------
    model
        Trained model.
    path
        File to write.

    Examples
    --------
    Use it with PyTorch alone::

        files = {"genes.json": ""}
        program = torch.export.load("model.pt2", extra_files=files)
        z_nd = program.module()(x_ng)    # float32, columns as json.loads(files["genes.json"])["gene_ids"]
    """
    encoder = (
        copy.deepcopy(ExpressionEncoder(model)).cpu().eval()
    )  # the program stays on the device of its export
    encoder.vae.fix_preconditioner()  # a matrix inverse has no ONNX operator
    center_g = encoder.scaler.center_g
    example_ng = center_g.expand(2, -1).clone()
    n_samples = torch.export.Dim("n_samples", min=1)
    with torch.no_grad():
        program = torch.export.export(encoder, (example_ng,), dynamic_shapes={"x_ng": {0: n_samples}})
    genes = {
        "gene_ids": model.gene_ids,
        "gene_names": model.gene_names,
        "unit": model.unit,
        "missing": center_g.tolist(),
    }
    with write_beside(path) as temporary:
        torch.export.save(program, temporary, extra_files={GENES: json.dumps(genes)})
