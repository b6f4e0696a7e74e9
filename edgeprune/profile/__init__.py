"""Stage 1: what this device can do, measured (no torch)."""
