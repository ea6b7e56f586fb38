"""Callbacks: one behaviour of training per file."""
