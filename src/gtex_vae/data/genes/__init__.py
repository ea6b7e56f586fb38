"""Genes of a matrix: identification of its columns and mapping to genes.

- ``ids``: Ensembl ids
- ``table``: the bundled table of human genes, lookup by id, symbol, former symbol or alias
- ``files``: GTF and gene lists
- ``columns``: choice among several columns of one gene
- ``harmonise``: one column per gene of an annotation (preprocess)
- ``mapping``: one column per gene of a trained model (encode, evaluate)
"""
