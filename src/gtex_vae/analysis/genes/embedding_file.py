"""Files of a run's gene embeddings, and similar genes from them.

Shapes: ``g`` genes, ``d`` latent dimensions, ``k`` neighbours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae import provenance
from gtex_vae.analysis.genes.neighbours import cosine_neighbours, neighbour_rows
from gtex_vae.config import nearest
from gtex_vae.errors import ConfigError, DataError, RunError
from gtex_vae.files import write_beside

if TYPE_CHECKING:
    from anndata import AnnData

    from gtex_vae.inference.trained_model import TrainedModel

STEM = "gene_embeddings"


def write_gene_embeddings(
    folder: Path, embeddings: Mapping[str, NDArray[np.float32]], genes: pd.DataFrame
) -> None:
    """Write ``gene_embeddings.h5ad`` and ``gene_embeddings.parquet``, with the same values.

    Parameters
    ----------
    folder
        The run.
    embeddings
        Name to embedding, shape (g, d). Each is stored in ``obsm`` under its name; the first is also ``X``.
    genes
        Annotations of the genes, indexed by id.
    """
    import anndata

    first = next(iter(embeddings))
    adata = anndata.AnnData(
        embeddings[first],
        obs=genes.rename_axis("gene_id"),
        var=pd.DataFrame(index=_columns(first, embeddings[first])),
        obsm=dict(embeddings),
        uns={"embedding": {"X": first}, "provenance": {"record": json.dumps(provenance.describe())}},
    )
    with write_beside(folder / f"{STEM}.h5ad") as temporary:
        adata.write_h5ad(temporary)
    tables = [pd.DataFrame(x_gd, adata.obs_names, _columns(name, x_gd)) for name, x_gd in embeddings.items()]
    with write_beside(folder / f"{STEM}.parquet") as temporary:
        pd.concat([adata.obs, *tables], axis=1).to_parquet(temporary)


def genes_table(model: TrainedModel) -> pd.DataFrame:
    """Make a table of name and mean expression (``level``) of a model's genes, indexed by id."""
    level_g = model.scaler.center_g.cpu().numpy()
    return pd.DataFrame({"gene_name": model.gene_names, "level": level_g}, index=model.gene_ids)


def _columns(name: str, embedding_gd: NDArray) -> list[str]:
    return [f"{name}_{d}" for d in range(embedding_gd.shape[1])]


def read_gene_embeddings(run: Path) -> AnnData:
    """Read the file that `write_gene_embeddings` writes.

    Raises
    ------
    RunError
        The run has not been evaluated.
    """
    import anndata

    path = run / f"{STEM}.h5ad"
    if not path.is_file():
        raise RunError(f"{run} has no {path.name} yet: `python -m gtex_vae.evaluate run={run}` writes it")
    return anndata.read_h5ad(path)


def choose(adata: AnnData, name: str | None) -> NDArray[np.float32]:
    """Return one embedding of a file; the first if ``name`` is None.

    Raises
    ------
    ConfigError
        The file has no embedding of this name.
    """
    name = str(adata.uns["embedding"]["X"]) if name is None else name
    if name not in adata.obsm:
        there = ", ".join(adata.obsm)
        raise ConfigError(
            f"gene_embedding={name} does not exist{nearest(name, adata.obsm)}; available: {there}"
        )
    return np.asarray(adata.obsm[name], dtype=np.float32)


def neighbour_table(
    adata: AnnData, genes: Sequence[str], *, k: int = 10, embedding: str | None = None
) -> pd.DataFrame:
    """Find the most similar genes of the given genes, by cosine.

    Parameters
    ----------
    adata
        See `read_gene_embeddings`.
    genes
        Ids or names; case does not matter.
    k
        Number of neighbours per gene.
    embedding
        Name of the embedding; the first if None.

    Returns
    -------
    DataFrame
        See `neighbour_rows`.

    Raises
    ------
    DataError
        The run does not have one of the genes.
    """
    ids, names = adata.obs_names.to_numpy(), adata.obs["gene_name"].astype(str).to_numpy()
    places: dict[str, int] = {}
    for place, known in enumerate(zip(ids, names, strict=True)):
        for name in known:
            places.setdefault(name.lower(), place)
    missing = [gene for gene in genes if gene.lower() not in places]
    if missing:
        listed = [f"ids and names in {STEM}.h5ad"]
        raise DataError(
            f"{missing[0]} is not a gene of this run{nearest(missing[0].lower(), places, listed=listed)}"
        )
    rows = np.array([places[gene.lower()] for gene in genes], dtype=np.intp)
    index_rk, cosine_rk = cosine_neighbours(choose(adata, embedding), k, rows=rows)
    return neighbour_rows(adata.obs["gene_name"], index_rk, cosine_rk, rows=rows)
