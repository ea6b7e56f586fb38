"""Evaluation of an alignment of donors with their cell types.

- ``run``: reads an alignment run and measures its retrieval.
- ``compare``: retrieval by the alignment and by baselines, with intervals.

The pages are in `gtex_vae.analysis.report`.
"""
