"""Simulated data with known truth.

- ``bulk``: `simulate_gtex`, the demo and exact probabilistic PCA data.
- ``cohort``: donors, tissues and sample annotations.
- ``genes``: gene ids and modules.
- ``expression``: parameters of genes and samples, and counts.
- ``cells``: `simulate_singlecell`, the single-cell demo.
- ``cell_world``: its donors, cell types and counts.
"""
