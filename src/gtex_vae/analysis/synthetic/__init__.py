"""Synthetic samples and their audit.

- ``synthesis``: draws samples from a run, and audits them together with baselines.
- ``audit``: compares samples with held-out donors.
"""
