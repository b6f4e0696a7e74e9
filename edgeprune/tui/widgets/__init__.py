"""Widgets, one a file; each draws what it is given and knows nothing of jobs.

A widget that can be focused has a `help_text` (shown by `?`); one that shows figures has `origins()` (shown by `i`).
"""

__all__: list[str] = []
