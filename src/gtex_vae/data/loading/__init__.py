"""Batches of a processed AnnData, in memory or from disk."""
