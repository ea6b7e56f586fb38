"""From any matrix to embeddings with a trained model, a block of samples at a time.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gtex_vae import provenance
from gtex_vae.analysis.out_of_distribution import VERDICTS
from gtex_vae.analysis.reference import Reference
from gtex_vae.data.align import MIN_OVERLAP
from gtex_vae.data.gene_columns import log_offset
from gtex_vae.data.model_input import ModelInput
from gtex_vae.data.readers.backed import from_anndata
from gtex_vae.data.readers.matrix import RawMatrix
from gtex_vae.models.judging import imputed_bounds
from gtex_vae.paths import write_beside

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
    judged
        Out-of-distribution scores, as of `Reference.judge`, where the run has a reference.
    low_ng, high_ng
        Bounds (n, g) in the model's unit of what was predicted, where they were asked for; what was measured bounds
        itself.
    """

    rows: slice
    mu_nd: np.ndarray
    sd_nd: np.ndarray
    x_ng: np.ndarray
    x_hat_ng: np.ndarray | None = None
    judged: pd.DataFrame | None = None
    low_ng: np.ndarray | None = None
    high_ng: np.ndarray | None = None

    @property
    def layers(self) -> dict[str, np.ndarray | None]:
        """What stands beside the expression in ``expression.h5ad``, by name."""
        return {"reconstruction": self.x_hat_ng, "lower": self.low_ng, "upper": self.high_ng}


def model_input(
    model: TrainedModel, matrix: RawMatrix, *, impute: bool, min_overlap: float = MIN_OVERLAP
) -> ModelInput:
    """Bring a matrix to a model's genes and unit; see `ModelInput`."""
    data = ModelInput(
        matrix,
        gene_ids=model.gene_ids,
        gene_names=model.gene_names,
        unit=model.unit,
        mean_g=model.scaler.center_g.cpu().numpy(),
        min_overlap=min_overlap,
    )
    if impute:
        data.report["missing_filled_with"] = "the model's prediction"
    return data


def encode_blocks(
    model: TrainedModel,
    data: ModelInput,
    *,
    impute: bool = False,
    reconstruct: bool = False,
    reference: Reference | None = None,
    interval: float | None = None,
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
    reference
        To judge each sample by, and for intervals.
    interval
        Level of the intervals of predicted genes; needs ``impute`` and a reference.
    batch_size
        Samples in a block.
    """
    from tqdm import tqdm

    present_g = torch.as_tensor(data.present_g, device=model.scaler.center_g.device)
    with tqdm(
        total=len(data), desc="encode", unit=" samples", delay=2, leave=False, disable=None
    ) as progress:
        for rows, x_ng in data.blocks(batch_size):
            part = _encode(model, rows, x_ng, present_g, impute=impute, reconstruct=reconstruct)
            if reference is not None:
                part = _judge(model, part, x_ng, data.present_g, reference, interval)
            yield part
            progress.update(rows.stop - rows.start)


@torch.inference_mode()
def _encode(
    model: TrainedModel, rows: slice, x_ng: np.ndarray, present_g: Tensor, *, impute: bool, reconstruct: bool
) -> Encoded:
    """Encode one block."""
    vae, scaler = model.vae, model.scaler
    z_ng = scaler(torch.as_tensor(x_ng, device=present_g.device))
    if impute and not present_g.all():
        predicted_ng = vae.reconstruct(z_ng, present_g.expand_as(z_ng))
        x_ng = np.where(present_g.cpu().numpy(), x_ng, in_unit(model, scaler.inverse(predicted_ng)))
        z_ng = scaler(torch.as_tensor(x_ng, device=present_g.device))
    mu_nd, log_var_nd = vae.encode(z_ng)
    x_hat_ng = in_unit(model, scaler.inverse(vae.decode(mu_nd))) if reconstruct else None
    sd_nd = torch.exp(0.5 * log_var_nd)
    return Encoded(rows, mu_nd.float().cpu().numpy(), sd_nd.float().cpu().numpy(), x_ng, x_hat_ng)


def _judge(
    model: TrainedModel,
    part: Encoded,
    x_ng: np.ndarray,
    present_g: np.ndarray,
    reference: Reference,
    interval: float | None,
) -> Encoded:
    """Add what the reference says of a block."""
    standard_ng = model.scaler(_like(model, x_ng)).cpu().numpy()
    if present_g.all():  # encoded already
        with torch.inference_mode():
            x_hat_ng = model.vae.decode(_like(model, part.mu_nd)).cpu().numpy()
        judged = reference.seen.judge(part.mu_nd, standard_ng - x_hat_ng)
    else:
        judged = reference.judge(model, standard_ng, present_g)
    part = replace(part, judged=judged)
    if interval is None:
        return part
    bounds = imputed_bounds(model, standard_ng, present_g, reference.intervals, interval)
    low_ng, high_ng = (
        np.where(present_g, x_ng, in_unit(model, model.scaler.inverse(_like(model, bound_ng))))
        for bound_ng in bounds
    )
    return replace(part, low_ng=low_ng, high_ng=high_ng)


def _like(model: TrainedModel, array: np.ndarray) -> Tensor:
    """An array on the model's device."""
    return torch.as_tensor(array, device=model.scaler.center_g.device)


def in_unit(model: TrainedModel, x_ng: Tensor) -> np.ndarray:
    """Predictions within what the model's unit allows: none below 0 in log2(v+1)."""
    allowed = x_ng.clamp_min(0.0) if log_offset(model.unit) == 1.0 else x_ng
    return allowed.float().cpu().numpy()


class Embeddings:
    """Embeddings of all samples with their ids and what is known of them, collected block by block.

    Parameters
    ----------
    model
        Trained model.
    data
        The samples.
    sd
        Keep the posterior standard deviations too, as ``layers["sd"]``.
    **facts
        More text for ``uns["embedding"]``, which says where the embeddings come from.

    Attributes
    ----------
    adata
        n x d; with a reference, ``obs["ood_score"]`` (1 at the edge of what the model has seen) and
        ``obs["ood_verdict"]``.
    """

    def __init__(self, model: TrainedModel, data: ModelInput, *, sd: bool, **facts: str) -> None:
        import anndata

        shape = len(data), model.vae.latent_dim
        self._score_n = np.full(shape[0], np.nan)
        self._verdict_n = np.full(shape[0], "", dtype=object)
        source = data.matrix.source
        self.adata = anndata.AnnData(
            np.zeros(shape, np.float32),
            obs=samples_table(data.matrix),
            var=pd.DataFrame(index=[f"z_{k}" for k in range(shape[1])]),
            layers={"sd": np.zeros(shape, np.float32)} if sd else {},
            uns={
                "embedding": {
                    "model": model.origin,
                    "model_sha256": model.digest,
                    "unit": model.unit,
                    "input_sha256": source.sha256 or "",
                    "alignment": json.dumps(data.report),
                    **facts,
                }
            },
        )

    def add(self, part: Encoded) -> None:
        """Put the embeddings of a block in their place."""
        self.adata.X[part.rows] = part.mu_nd
        for layer in self.adata.layers:
            self.adata.layers[layer][part.rows] = part.sd_nd
        if part.judged is not None:
            self._score_n[part.rows] = part.judged["score"]
            self._verdict_n[part.rows] = part.judged["verdict"].astype(str)
            self.adata.obs["ood_score"] = self._score_n
            self.adata.obs["ood_verdict"] = pd.Categorical(self._verdict_n, categories=VERDICTS)

    def write(self, folder: Path) -> None:
        """Write ``embeddings.h5ad``, and the same numbers as ``embeddings.parquet`` (sample, z_0, ..., sd_0, ...)."""
        table = self.adata.to_df()
        if "sd" in self.adata.layers:
            sd = self.adata.to_df("sd")
            table = table.join(sd.set_axis([f"sd_{k}" for k in range(sd.shape[1])], axis=1))
        with write_beside(folder / "embeddings.parquet") as temporary:
            table.rename_axis("sample").to_parquet(temporary)
        with write_beside(folder / "embeddings.h5ad") as temporary:
            self.adata.uns["provenance"] = {"record": json.dumps(provenance.describe())}
            self.adata.write_h5ad(temporary)


def expression_tables(model: TrainedModel, data: ModelInput) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of the samples and of the model's genes: symbol, and whether the data has the gene."""
    index = pd.Index(model.gene_ids, name="gene_id")
    var = pd.DataFrame({"gene_name": model.gene_names, "measured": data.present_g}, index=index)
    return samples_table(data.matrix), var


def samples_table(matrix: RawMatrix) -> pd.DataFrame:
    """What is known of the samples, by id."""
    if matrix.obs is None:
        return pd.DataFrame(index=pd.Index(matrix.sample_ids))
    return matrix.obs.set_axis(pd.Index(matrix.sample_ids, name=matrix.obs.index.name), axis=0)


def encode_anndata(
    model: TrainedModel, adata: AnnData, *, unit: str | None, sd: bool, impute: bool
) -> AnnData:
    """See `TrainedModel.encode`."""
    data = model_input(model, from_anndata(adata, unit=unit), impute=impute)
    embeddings = Embeddings(model, data, sd=sd)
    reference = Reference.load(model.origin) if model.origin else None
    for part in encode_blocks(model, data, impute=impute, reference=reference):
        embeddings.add(part)
    return embeddings.adata


def impute_anndata(model: TrainedModel, adata: AnnData, *, unit: str | None) -> AnnData:
    """See `TrainedModel.impute`."""
    import anndata

    data = model_input(model, from_anndata(adata, unit=unit), impute=True)
    x_ng = np.empty((len(data), len(model.gene_ids)), np.float32)
    x_hat_ng = np.empty_like(x_ng)
    for part in encode_blocks(model, data, impute=True, reconstruct=True):
        x_ng[part.rows], x_hat_ng[part.rows] = part.x_ng, part.x_hat_ng
    obs, var = expression_tables(model, data)
    return anndata.AnnData(
        x_ng,
        obs=obs,
        var=var,
        layers={"reconstruction": x_hat_ng},
        uns={"expression": {"unit": model.unit}, "embedding": {"model_sha256": model.digest}},
    )
