"""Readers of delimited text and GCT."""
