"""Embeddings of bulk gene expression: VAEs trained, evaluated and applied with Lightning and Hydra.

``gtex_vae.load(run).encode(adata)`` embeds an AnnData with a trained run, ``gtex_vae.gene_neighbours(run, "TP53")``
finds similar genes.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gtex-vae")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

from gtex_vae.api import gene_neighbours, load

__all__ = ["__version__", "gene_neighbours", "load"]
