"""From a raw matrix to a processed AnnData.

prepare, in_chunks
    Read, map genes, annotate, filter: in memory, or a block of samples at a time.
filters, sample_stats, gene_stats
    Samples and genes to keep, and the statistics that decide.
qc, near_duplicates
    The quality control page, and nearly identical samples.
processed, fingerprint, gene_lists
    The processed file, the check whether it is up to date, and the gene lists next to it.
"""
