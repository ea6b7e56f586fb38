"""Readers of delimited text and GCT.

- ``stream``: decompressed blocks of whole lines, read in a thread
- ``rows``: lines to fields and numbers, collected in memory
- ``numbers``: decimal text to float32
- ``spill``: the same collectors on disk
- ``gene_rows``: lines of one gene each
- ``gct``, ``layout`` and ``delimited``: the formats
"""
