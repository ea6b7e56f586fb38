"""Embeddings of all samples with what is known of them: gathered block by block, as AnnData and parquet.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions, ``p`` dimensions of a projection.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gtex_vae import provenance
from gtex_vae.data.readers.matrix import RawMatrix
from gtex_vae.files import write_beside
from gtex_vae.inference.encoding import Encoded
from gtex_vae.inference.model_input import ModelInput
from gtex_vae.inference.out_of_distribution import VERDICTS
from gtex_vae.inference.projection import find_projector

if TYPE_CHECKING:
    from anndata import AnnData

    from gtex_vae.inference.trained_model import TrainedModel


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
    projector
        To encode the blocks with, where the run has a contrastive part; `finish` puts the projections into
        ``obsm["projection"]``.
    adata
        n x d; with a reference, ``obs["ood_score"]`` (1 at the edge of what the model has seen) and
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
        """Put the embeddings of a block in their place."""
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
        """The embeddings, with the projections that had to wait for the last block."""
        if self.projector is not None:
            projected_np = self.projector.finish(torch.cat(self._projected))
            self.adata.obsm["projection"] = projected_np.float().cpu().numpy()
            self.adata.uns["embedding"]["projection"] = self.projector.side
        return self.adata

    def write(self, folder: Path) -> None:
        """Write ``embeddings.h5ad``, and its numbers as ``embeddings.parquet`` (sample, z_0, ..., sd_0, ..., p_0, ...)."""
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
    """Tables of the samples and of the model's genes: symbol, and whether the data has the gene."""
    index = pd.Index(model.gene_ids, name="gene_id")
    var = pd.DataFrame({"gene_name": model.gene_names, "measured": data.present_g}, index=index)
    return samples_table(data.matrix), var


def samples_table(matrix: RawMatrix) -> pd.DataFrame:
    """What is known of the samples, by id."""
    if matrix.obs is None:
        return pd.DataFrame(index=pd.Index(matrix.sample_ids))
    return matrix.obs.set_axis(pd.Index(matrix.sample_ids, name=matrix.obs.index.name), axis=0)
