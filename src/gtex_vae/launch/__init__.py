"""Stages as jobs: submitted, followed, requeued and chained."""
