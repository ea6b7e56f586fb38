"""Alignment of donors with their cell types: comparison, figures and report."""
