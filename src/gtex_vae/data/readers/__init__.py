"""Readers of expression matrices: any file becomes a :class:`~gtex_vae.data.readers.matrix.RawMatrix`.

The way of a matrix from a file to log2(TPM+1) of one column per gene:

1. `sniff.sniff` recognises format and compression from the first bytes
2. `read.read_matrix` calls the format's reader of `registry.FORMATS` (``text.gct``, ``text.delimited``, ``parquet``, ``anndata``)
3. `units.recognise_unit` names the unit of the resulting `matrix.RawMatrix`
4. `gtex_vae.data.genes.harmonise.plan_genes` finds the columns of each gene, `Columns.take` gathers them
5. `gtex_vae.data.units.to_log2_tpm` converts the values

``backed`` does steps 1 to 3 without loading the values of an AnnData store, ``stores`` opens such stores, and
``orientation`` recognises the axis of the genes.
"""

from gtex_vae.data.readers.matrix import RawMatrix, Source
from gtex_vae.data.readers.read import read_matrix
from gtex_vae.data.units import UNITS

__all__ = ["UNITS", "RawMatrix", "Source", "read_matrix"]
