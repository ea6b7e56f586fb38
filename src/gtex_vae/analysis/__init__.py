"""Metrics, baselines and figures: pure functions of arrays and trained models."""
