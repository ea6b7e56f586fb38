"""Gene embeddings of a model, and the gene functions that they recover.

- ``embedding``: gene embeddings from a trained VAE.
- ``embedding_file``: `gene_embeddings.h5ad` and similar genes from it.
- ``neighbours``: most similar genes by cosine.
- ``gene_sets``: GMT files matched to a model's genes.
- ``function``: AUROC of gene sets from similarity.
- ``supervised``: AUROC of gene sets from support vector machines.
- ``benchmark``: both for several embeddings, with intervals and a null.
- ``enrichment``: gene sets that change along latent dimensions.
- ``evaluation``: all of these for one run.
"""
