"""Evaluation of a model on held-out samples or on another matrix.

- `score`: metrics of several methods on the same masked samples; `predictions`: collector of their predictions
- `evaluate`: all metrics and tables of a model; `run_samples`: samples of a run; `other_matrix`: any other matrix
- `run_predictions`: predictions that evaluate writes and analyze reads; `by_gene_and_tissue`: R2 by gene and tissue
- `rate`: KL and ELBO; `latent_space`, `traversal`: the latent space; `missing_genes`: samples that lack genes
- `leakage`: checks of the splits; `seed_stability`: agreement of runs that differ only in the seed
"""
