"""Contents of a run directory on disk."""
