"""Whole models and the objectives that they are trained on."""
