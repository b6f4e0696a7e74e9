"""Stage 4: what a recipe will cost on a device, from shapes and measurements alone; no weights, no bundle, no torch."""
