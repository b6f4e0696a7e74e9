"""Techniques that can be asked for alone, one a file: scores and a kept fraction in, a recipe out."""

__all__: list[str] = []
