"""From a raw matrix to a processed AnnData."""
