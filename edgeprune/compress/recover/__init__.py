"""Training after compression, in steps that can be repeated; `weights.py` is the pass that calls the rest."""
