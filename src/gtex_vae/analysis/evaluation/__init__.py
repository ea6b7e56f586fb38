"""Scores of a trained model on held-out samples or on another matrix."""
