"""Metrics computed from arrays, without files or models.

- ``catalogue``: label, direction, intervals and requirements of every metric.
- ``reconstruction``, ``reconstruction_tables``: errors and R2, overall, per gene and per tissue.
- ``imputation``: prediction of hidden entries.
- ``coverage``: coverage of predictive intervals.
- ``bootstrap``, ``interval_table``: intervals over donors.
- ``tissue``, ``clustering``, ``distances``: separation of tissues in an embedding.
- ``latent``, ``disentanglement``: use of latent dimensions, and known factors in them.
- ``covariate_prediction``: covariates predicted from an embedding.
- ``retrieval``: donors found by their cell types.
"""
