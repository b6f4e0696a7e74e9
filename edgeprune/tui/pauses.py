"""Keeps the garbage collector's long pauses off the event loop.

A full collection walks every object that was ever imported or composed: 50 to 130 ms of a core, measured after a run,
and the loop stands still meanwhile. What stays for the life of the app is taken out of that walk (`gc.freeze`): when
the first screen stands, when the feed's threads have imported what they need, and when a screen is shown for the first
time. What is drawn afterwards is walked in 30 to 80 ms, and five times less often than by default; reference counts
free nearly everything at once, as before.
"""

import gc

__all__ = ["IMPORTS_SETTLED_S", "keep_what_stands"]

FULL_AFTER = 50
"""Collections of the middle generation before a full one; 10 by default."""
IMPORTS_SETTLED_S = 3.0
"""By then the threads have imported the client and read the first records."""


def keep_what_stands() -> None:
    """Take all that is alive now out of further collections, after the young part of it was looked through."""
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, FULL_AFTER)
    gc.collect(1)
    gc.freeze()
