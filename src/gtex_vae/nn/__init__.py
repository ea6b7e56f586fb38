"""Network parts.

- encoder, decoder: built from mlp, linear, norms and dropout
- likelihood: the interface; likelihoods: Gaussian kinds and the table of all; negative_binomial: read counts
- pooling, projection_head: parts of the alignment of donors with their cell types
- distributed: sums and means over all processes
"""
