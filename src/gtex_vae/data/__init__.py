"""From a raw matrix to standardized, donor-split batches."""
