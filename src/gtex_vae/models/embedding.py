"""From any matrix to embeddings with a trained model, a block of samples at a time.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gtex_vae.data.align import MIN_OVERLAP
from gtex_vae.data.gene_columns import log_offset
from gtex_vae.data.model_input import ModelInput
from gtex_vae.data.readers.backed import from_anndata
from gtex_vae.data.readers.matrix import RawMatrix

if TYPE_CHECKING:
    from anndata import AnnData

    from gtex_vae.models.trained import TrainedModel

BATCH_SIZE = 512


@dataclass(frozen=True)
class Encoded:
    """Consecutive samples, encoded.

    Attributes
    ----------
    rows
        Where they stand.
    mu_nd, sd_nd
        Posterior means and standard deviations (n, d).
    x_ng
        Expression (n, g) in the model's unit; missing genes at their training mean, or as predicted.
    x_hat_ng
        Decoded means (n, g) in the model's unit, where they were asked for.
    """

    rows: slice
    mu_nd: np.ndarray
    sd_nd: np.ndarray
    x_ng: np.ndarray
    x_hat_ng: np.ndarray | None


def model_input(model: TrainedModel, matrix: RawMatrix, *, min_overlap: float = MIN_OVERLAP) -> ModelInput:
    """Bring a matrix to a model's genes and unit; see `ModelInput`."""
    return ModelInput(
        matrix,
        gene_ids=model.gene_ids,
        gene_names=model.gene_names,
        unit=model.unit,
        mean_g=model.scaler.center_g.cpu().numpy(),
        min_overlap=min_overlap,
    )


def encode_blocks(
    model: TrainedModel,
    data: ModelInput,
    *,
    impute: bool = False,
    reconstruct: bool = False,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Encoded]:
    """Encode block after block, with a progress bar where it takes more than two seconds.

    A sample's result does not depend on the block it comes in, nor on its neighbours there.

    Parameters
    ----------
    model
        Trained model.
    data
        The samples.
    impute
        Fill missing genes with the model's prediction, as `VAE.reconstruct` makes it, and encode what results.
    reconstruct
        Decode the posterior means too.
    batch_size
        Samples in a block.
    """
    from tqdm import tqdm

    present_g = torch.as_tensor(data.present_g, device=model.scaler.center_g.device)
    with tqdm(total=len(data), desc="encode", unit=" samples", delay=2, leave=False) as progress:
        for rows, x_ng in data.blocks(batch_size):
            yield _encode(model, rows, x_ng, present_g, impute=impute, reconstruct=reconstruct)
            progress.update(rows.stop - rows.start)


@torch.inference_mode()
def _encode(
    model: TrainedModel, rows: slice, x_ng: np.ndarray, present_g: Tensor, *, impute: bool, reconstruct: bool
) -> Encoded:
    """Encode one block."""
    vae, scaler = model.vae, model.scaler
    z_ng = scaler(torch.as_tensor(x_ng, device=present_g.device))
    if impute and not present_g.all():
        z_ng = torch.where(present_g, z_ng, vae.reconstruct(z_ng, present_g.expand_as(z_ng)))
        predicted_ng = _in_unit(model, scaler.inverse(z_ng))
        x_ng = np.where(present_g.cpu().numpy(), x_ng, predicted_ng)
    mu_nd, log_var_nd = vae.encoder(z_ng)
    x_hat_ng = _in_unit(model, scaler.inverse(vae.decoder(mu_nd))) if reconstruct else None
    sd_nd = torch.exp(0.5 * log_var_nd)
    return Encoded(rows, mu_nd.float().cpu().numpy(), sd_nd.float().cpu().numpy(), x_ng, x_hat_ng)


def _in_unit(model: TrainedModel, x_ng: Tensor) -> np.ndarray:
    """Predictions within what the model's unit allows: none below 0 in log2(v+1)."""
    allowed = x_ng.clamp_min(0.0) if log_offset(model.unit) == 1.0 else x_ng
    return allowed.float().cpu().numpy()


def embedding_frame(model: TrainedModel, data: ModelInput, **uns: Any) -> AnnData:
    """Empty AnnData (n x d) for embeddings: ids and ``obs`` of the samples, and where they come from.

    Parameters
    ----------
    model
        Trained model.
    data
        The samples.
    **uns
        More facts for ``uns["embedding"]``, as text.
    """
    import anndata

    n, d = len(data), model.vae.latent_dim
    facts = {
        "model": model.origin,
        "model_sha256": model.digest,
        "unit": model.unit,
        "alignment": json.dumps(data.report),
        **uns,
    }
    return anndata.AnnData(
        np.empty((n, d), np.float32),
        obs=samples_table(data.matrix),
        var=pd.DataFrame(index=[f"z_{k}" for k in range(d)]),
        uns={"embedding": facts},
    )


def expression_var(model: TrainedModel, data: ModelInput) -> pd.DataFrame:
    """Table of the model's genes: symbol, and whether the data has the gene."""
    index = pd.Index(model.gene_ids, name="gene_id")
    return pd.DataFrame({"gene_name": model.gene_names, "measured": data.present_g}, index=index)


def samples_table(matrix: RawMatrix) -> pd.DataFrame:
    """What is known of the samples, by id."""
    if matrix.obs is None:
        return pd.DataFrame(index=matrix.sample_ids)
    return matrix.obs.set_axis(pd.Index(matrix.sample_ids, name=matrix.obs.index.name), axis=0)


def encode_anndata(
    model: TrainedModel, adata: AnnData, *, unit: str | None, sd: bool, impute: bool
) -> AnnData:
    """See `TrainedModel.encode`."""
    data = model_input(model, from_anndata(adata, unit=unit))
    embedded = embedding_frame(model, data)
    sd_nd = np.empty_like(embedded.X)
    for part in encode_blocks(model, data, impute=impute):
        embedded.X[part.rows], sd_nd[part.rows] = part.mu_nd, part.sd_nd
    if sd:
        embedded.layers["sd"] = sd_nd
    return embedded


def impute_anndata(model: TrainedModel, adata: AnnData, *, unit: str | None) -> AnnData:
    """See `TrainedModel.impute`."""
    import anndata

    data = model_input(model, from_anndata(adata, unit=unit))
    x_ng = np.empty((len(data), len(model.gene_ids)), np.float32)
    x_hat_ng = np.empty_like(x_ng)
    for part in encode_blocks(model, data, impute=True, reconstruct=True):
        x_ng[part.rows], x_hat_ng[part.rows] = part.x_ng, part.x_hat_ng
    return anndata.AnnData(
        x_ng,
        obs=samples_table(data.matrix),
        var=expression_var(model, data),
        layers={"reconstruction": x_hat_ng},
        uns={"expression": {"unit": model.unit}, "embedding": {"model_sha256": model.digest}},
    )
