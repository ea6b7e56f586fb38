"""Stages as jobs.

``jobs``: submit, follow and requeue jobs. ``chain``: run stages one after the other. ``plan``: configs of a chain.
"""
