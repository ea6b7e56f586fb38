"""Metrics computed from arrays, without files or models."""
