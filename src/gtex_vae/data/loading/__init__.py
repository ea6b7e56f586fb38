"""From a processed AnnData to batches.

standardized
    Expression of all samples in memory, on the GPU or on disk; it creates the loaders.
memory
    `Batch`, and the loader of a matrix in memory or on the GPU.
disk, disk_matrix
    The loader of a matrix on disk, and the matrix that it reads.
"""
