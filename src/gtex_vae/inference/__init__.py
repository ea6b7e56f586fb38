"""A trained model applied to any matrix."""
