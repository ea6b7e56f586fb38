"""Output files of encode: embeddings as AnnData and parquet, and expression.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions, ``p`` dimensions of a projection.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gtex_vae import provenance
from gtex_vae.data.expression_file import write_expression
from gtex_vae.data.readers.matrix import RawMatrix
from gtex_vae.files import write_beside
from gtex_vae.inference.covariates import CovariateInput
from gtex_vae.inference.encoding import Encoded, encode_blocks
from gtex_vae.inference.model_input import ModelInput
from gtex_vae.inference.out_of_distribution import VERDICTS
from gtex_vae.inference.projection import find_projector

if TYPE_CHECKING:
    from anndata import AnnData

    from gtex_vae.inference.trained_model import TrainedModel


class Embeddings:
    """Embeddings of all samples with their annotations, collected block by block.

    Parameters
    ----------
    model
        Trained model.
    data
        The samples.
    sd
        Also keep posterior standard deviations, as ``layers["sd"]``.
    **facts
        Further entries of ``uns["embedding"]``, the origin of the embeddings.

    Attributes
    ----------
    projector
        Argument of `encode_blocks`, if the run has a contrastive part; `finish` writes the projections to
        ``obsm["projection"]``.
    adata
        n x d; with a calibration also ``obs["ood_score"]`` (1 at the edge of the training distribution) and
        ``obs["ood_verdict"]``.
    """

    def __init__(self, model: TrainedModel, data: ModelInput, *, sd: bool, **facts: str) -> None:
        import anndata

        shape = len(data), model.vae.latent_dim
        self.projector = find_projector(model, samples_table(data.matrix))
        self._projected: list[Tensor] = []
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
        """Add the embeddings of a block."""
        self.adata.X[part.rows] = part.mu_nd
        if "sd" in self.adata.layers:
            self.adata.layers["sd"][part.rows] = part.sd_nd
        if part.projected_nf is not None:
            self._projected.append(part.projected_nf)
        if part.ood is not None:
            self._score_n[part.rows] = part.ood["score"]
            self._verdict_n[part.rows] = part.ood["verdict"].astype(str)
            self.adata.obs["ood_score"] = self._score_n
            self.adata.obs["ood_verdict"] = pd.Categorical(self._verdict_n, categories=VERDICTS)

    @torch.inference_mode()
    def finish(self) -> AnnData:
        """Compute projections and return the AnnData; call it after the last block."""
        if self.projector is not None:
            projected_np = self.projector.finish(torch.cat(self._projected))
            self.adata.obsm["projection"] = projected_np.float().cpu().numpy()
            self.adata.uns["embedding"]["projection"] = self.projector.side
        return self.adata

    def write(self, folder: Path) -> None:
        """Write ``embeddings.h5ad`` and ``embeddings.parquet`` (sample, z_0, ..., sd_0, ..., p_0, ...)."""
        self.finish()
        table = self.adata.to_df()
        if "sd" in self.adata.layers:
            sd = self.adata.to_df("sd")
            table = table.join(sd.set_axis([f"sd_{k}" for k in range(sd.shape[1])], axis=1))
        if "projection" in self.adata.obsm:
            projected_np = self.adata.obsm["projection"]
            names = [f"p_{k}" for k in range(projected_np.shape[1])]
            table = table.join(pd.DataFrame(projected_np, table.index, names))
        with write_beside(folder / "embeddings.parquet") as temporary:
            table.rename_axis("sample").to_parquet(temporary)
        with write_beside(folder / "embeddings.h5ad") as temporary:
            self.adata.uns["provenance"] = {"record": json.dumps(provenance.describe())}
            self.adata.write_h5ad(temporary)


def expression_tables(model: TrainedModel, data: ModelInput) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return tables of the samples and of the model's genes (symbol, measured or not)."""
    index = pd.Index(model.gene_ids, name="gene_id")
    var = pd.DataFrame({"gene_name": model.gene_names, "measured": data.present_g}, index=index)
    return samples_table(data.matrix), var


def samples_table(matrix: RawMatrix) -> pd.DataFrame:
    """Return the annotations of the samples, by id."""
    if matrix.obs is None:
        return pd.DataFrame(index=pd.Index(matrix.sample_ids))
    return matrix.obs.set_axis(pd.Index(matrix.sample_ids, name=matrix.obs.index.name), axis=0)


def encode_to_files(
    model: TrainedModel,
    data: ModelInput,
    folder: Path,
    *,
    sd: bool = False,
    expression: bool = False,
    covariates: CovariateInput | None = None,
    reconstruct: bool = False,
    interval: float | None = None,
    facts: Mapping[str, str],
    **how: Any,
) -> AnnData:
    """Encode a matrix and write ``embeddings.h5ad``, ``embeddings.parquet`` and, if requested, ``expression.h5ad``.

    Parameters
    ----------
    model, data
        Trained model and its input.
    folder
        Where to write.
    sd, facts
        See `Embeddings`.
    expression
        Write ``expression.h5ad``; a reconstruction or other covariates imply it.
    covariates, reconstruct, interval, **how
        See `encode_blocks`.

    Returns
    -------
    AnnData
        The embeddings.
    """
    embeddings = Embeddings(model, data, sd=sd, **facts)
    as_if = covariates is not None and covariates.supposed_nk is not None
    layers = ["reconstruction"] * reconstruct + ["lower", "upper"] * bool(interval) + ["as_if"] * as_if
    writer = (
        write_expression(
            folder / "expression.h5ad", *expression_tables(model, data), unit=model.unit, layers=layers
        )
        if expression or reconstruct or as_if
        else nullcontext()
    )
    blocks = encode_blocks(
        model, data, projector=embeddings.projector, covariates=covariates, reconstruct=reconstruct,
        interval=interval, **how,
    )  # fmt: skip
    with writer as file:
        for block in blocks:
            embeddings.add(block)
            if file is not None:
                file.write(block.rows, X=block.x_ng, **block.layers)
    embeddings.write(folder)
    return embeddings.adata
