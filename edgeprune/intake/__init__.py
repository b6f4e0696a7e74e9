"""Stage 2: a model folder becomes a `ModelSpec` (no torch) and, for the host, a `LoadedModel` (torch).

`spec`, `headers`, `source` and `families` run on the base install; `load` and `adapters` need the `compress` extra.
"""
