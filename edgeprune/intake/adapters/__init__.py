"""Adapters: where the modules of a torch model stand, one architecture family a file (needs the `compress` extra)."""
