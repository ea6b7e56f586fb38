"""Any published expression matrix in: see :func:`gtex_vae.data.readers.read.read_matrix`."""

from gtex_vae.data.readers.matrix import RawMatrix, Source
from gtex_vae.data.readers.read import read_matrix
from gtex_vae.data.readers.units import UNITS, to_log2_tpm

__all__ = ["UNITS", "RawMatrix", "Source", "read_matrix", "to_log2_tpm"]
