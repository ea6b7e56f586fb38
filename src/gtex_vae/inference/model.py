"""Trained model for notebooks: embed, impute and export AnnData.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gtex_vae.data.genes.mapping import MIN_OVERLAP
from gtex_vae.data.readers.backed import from_anndata
from gtex_vae.inference.calibration import Calibration
from gtex_vae.inference.covariates import covariates_of
from gtex_vae.inference.embedding_file import Embeddings, expression_tables
from gtex_vae.inference.encoding import encode_blocks, model_input
from gtex_vae.inference.export import export
from gtex_vae.inference.trained_model import TrainedModel

if TYPE_CHECKING:
    from anndata import AnnData


class Model(TrainedModel):
    """`TrainedModel` with methods for AnnData; `gtex_vae.load` returns it."""

    def encode(
        self,
        adata: AnnData,
        *,
        unit: str | None = None,
        layer: str | None = None,
        min_overlap: float = MIN_OVERLAP,
        sd: bool = False,
        impute: bool = True,
    ) -> AnnData:
        """Embed an AnnData of samples x genes as posterior means.

        Genes are matched by id or symbol. The unit is recognised and converted. The model predicts missing genes.
        ``uns["embedding"]`` records all of this.

        Parameters
        ----------
        adata
            Processed or raw, dense, sparse or backed.
        unit
            One of `gtex_vae.data.units.UNITS`, if neither ``uns["expression"]["unit"]`` nor the values show it.
        layer
            Layer of ``adata`` instead of X.
        min_overlap
            Minimum share of the model's genes that ``adata`` must have, from 0 to 1.
        sd
            Add ``layers["sd"]``, the posterior standard deviations.
        impute
            Predict missing genes from the others. If False, they are filled with their training mean: the embedding is
            then further from that of the complete sample.

        Returns
        -------
        AnnData
            n x d, with the ``obs`` of ``adata``; ``obsm["projection"]`` if the run has a contrastive part (see
            `gtex_vae.inference.projection.find_projector`).

        Raises
        ------
        DataError
            Too few of the model's genes, or a unit that cannot be recognised or converted.
        """
        matrix = from_anndata(adata, unit=unit, layer=layer)
        data = model_input(self, matrix, impute=impute, min_overlap=min_overlap)
        embeddings = Embeddings(self, data, sd=sd)
        calibration = Calibration.load(self.origin) if self.origin else None
        for block in encode_blocks(
            self, data, impute=impute, calibration=calibration, projector=embeddings.projector,
            covariates=covariates_of(self, matrix),
        ):  # fmt: skip
            embeddings.add(block)
        return embeddings.finish()

    def impute(
        self,
        adata: AnnData,
        *,
        unit: str | None = None,
        layer: str | None = None,
        min_overlap: float = MIN_OVERLAP,
    ) -> AnnData:
        """Predict the genes that an AnnData lacks.

        Parameters
        ----------
        adata, unit, layer, min_overlap
            See `encode`.

        Returns
        -------
        AnnData
            n x g, all of the model's genes in its unit: as measured or predicted. It has the ``obs`` of ``adata``,
            ``var["measured"]``, and ``layers["reconstruction"]``, the reconstruction of every gene.
        """
        import anndata

        matrix = from_anndata(adata, unit=unit, layer=layer)
        data = model_input(self, matrix, min_overlap=min_overlap)
        x_ng = np.empty((len(data), len(self.gene_ids)), np.float32)
        x_hat_ng = np.empty_like(x_ng)
        for block in encode_blocks(self, data, reconstruct=True, covariates=covariates_of(self, matrix)):
            x_ng[block.rows], x_hat_ng[block.rows] = block.x_ng, block.x_hat_ng
        obs, var = expression_tables(self, data)
        return anndata.AnnData(
            x_ng,
            obs=obs,
            var=var,
            layers={"reconstruction": x_hat_ng},
            uns={"expression": {"unit": self.unit}, "embedding": {"model_sha256": self.digest}},
        )

    def export(self, path: Path | str) -> None:
        """Write the encoder as a ``torch.export`` program; see `gtex_vae.inference.export`."""
        export(self, Path(path))
