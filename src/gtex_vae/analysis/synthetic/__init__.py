"""Synthetic samples and their audit."""
