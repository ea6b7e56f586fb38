"""Embeddings of bulk gene expression: VAEs trained, evaluated and applied with Lightning and Hydra."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gtex-vae")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
