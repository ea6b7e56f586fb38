"""For notebooks: load a trained run and use it on an AnnData."""

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
    """The genes most similar to some genes, by the gene embeddings of a run.

    Parameters
    ----------
    run
        Run directory that was evaluated, or ``latest``.
    genes
        Ids or names.
    k
        How many for each.
    embedding
        ``decoder_loadings`` or ``output_weights``; None: the run's first.
    outputs
        Where ``latest`` looks.

    Returns
    -------
    DataFrame
        ``gene_id``, ``gene_name``, ``rank`` (from 1), ``neighbour_id``, ``neighbour_name``, ``cosine``.

    Raises
    ------
    RunError
        There is no such run, or it was not evaluated.
    DataError, ConfigError
        A gene, or the embedding, is not there.

    Examples
    --------
    Needs a run that ``python -m gtex_vae.evaluate`` has been through::

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
        Where ``latest`` looks.

    Returns
    -------
    Model
        On the CPU; ``model.to("cuda")`` moves it. Its methods `encode` and `impute` take an AnnData, `export` writes
        a program for PyTorch alone.

    Raises
    ------
    RunError
        There is no such run, or it has not finished.

    Examples
    --------
    Three lines embed an AnnData of one's own::

        import gtex_vae
        model = gtex_vae.load("outputs/train/runs/2025-01-31_12-00-00-000000")
        embedded = model.encode(adata)    # AnnData, samples x latent dimensions
    """
    from gtex_vae.inference.model import Model
    from gtex_vae.runs.directory import find_run

    if (Path(run) / "model.json").is_file():
        return Model.load(run)
    return Model.load(find_run(str(run), Path(outputs)) / "model")
