"""Weights that stay in files: models larger than memory are ordinary module trees of such."""
