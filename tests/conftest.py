"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import settings

# the same examples on every machine and every run, and no failure because the machine was busy
settings.register_profile("gtex_vae", derandomize=True, deadline=None, max_examples=60, database=None)
settings.load_profile("gtex_vae")
