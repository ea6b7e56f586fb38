"""Quality of a trained model: metrics, tables, figures and reports.

- ``metrics``: metrics of arrays.
- ``baselines``: training mean, tissue means and nearest neighbours.
- ``genes``: gene embeddings and gene function.
- ``evaluation``, ``evaluate_run``: a model on held-out samples or another matrix.
- ``synthetic``: synthetic samples and their audit.
- ``alignment``: donors aligned with their cell types.
- ``report``: pages, figures, model card.
"""
