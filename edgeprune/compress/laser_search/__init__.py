"""LASER as published: which one truncated matrix answers questions better (arXiv 2312.13558), and a faster search."""
