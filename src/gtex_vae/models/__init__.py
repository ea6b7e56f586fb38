"""Whole models and their objectives.

- vae: the VAE; objective: its loss; conditioning: initialisation of a conditional VAE; contrastive: contrastive terms
- pca: PCA, which initialises the VAE and is its baseline
- aligner, tuned_encoder: alignment of donors with their cell types
- storage: weights and architecture on disk
"""
