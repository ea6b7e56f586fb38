"""Functions for notebooks: load a trained model, look up similar genes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from gtex_vae.inference.model import Model


def gene_neighbours(
    run: Path | str,
    genes: str | Sequence[str],
    k: int = 10,
    *,
    embedding: str | None = None,
    outputs: Path | str = "outputs",
) -> pd.DataFrame:
    """Find the genes most similar to given genes, by the gene embeddings of a run.

    Parameters
    ----------
    run
        Evaluated run directory, or ``latest``.
    genes
        Gene ids or names.
    k
        Neighbours per gene.
    embedding
        ``decoder_loadings`` or ``output_weights``; None: the first of the run.
    outputs
        Folder searched for ``latest``.

    Returns
    -------
    DataFrame
        ``gene_id``, ``gene_name``, ``rank`` (from 1), ``neighbour_id``, ``neighbour_name``, ``cosine``.

    Raises
    ------
    RunError
        No such run, or it was not evaluated.
    DataError, ConfigError
        Unknown gene or embedding.

    Examples
    --------
    The run must be evaluated with ``python -m gtex_vae.evaluate``::

        gtex_vae.gene_neighbours("latest", ["TP53", "ENSG00000141510"], k=5)
    """
    from gtex_vae.analysis.genes.embedding_file import neighbour_table, read_gene_embeddings
    from gtex_vae.runs.directory import find_run

    adata = read_gene_embeddings(find_run(str(run), Path(outputs)))
    return neighbour_table(adata, [genes] if isinstance(genes, str) else genes, k=k, embedding=embedding)


def load(run: Path | str = "latest", *, outputs: Path | str = "outputs") -> Model:
    """Load the model of a finished training run.

    Parameters
    ----------
    run
        Run directory, its ``model`` folder, or ``latest``: the newest run under ``outputs`` that succeeded.
    outputs
        Folder searched for ``latest``.

    Returns
    -------
    Model
        On the CPU; ``model.to("cuda")`` moves it. `encode` and `impute` take an AnnData, `export` writes a program
        for PyTorch alone.

    Raises
    ------
    RunError
        No such run, or it has not finished.

    Examples
    --------
    Embed an AnnData::

        import gtex_vae
        model = gtex_vae.load("outputs/train/runs/2025-01-31_12-00-00-000000")
        embedded = model.encode(adata)    # AnnData, samples x latent dimensions
    """
    from gtex_vae.inference.model import Model
    from gtex_vae.runs.directory import find_model

    return Model.load(find_model(str(run), Path(outputs)))
