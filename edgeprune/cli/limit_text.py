"""A limit and what a choice is predicted to use of it, in a line."""

from edgeprune.schema.candidate import LimitUse
from edgeprune.units import format_bytes, format_fraction, format_seconds

__all__ = ["limit_use_text"]

_SHOWN = {
    "memory": format_bytes,
    "device memory": format_bytes,
    "disk": format_bytes,
    "latency": format_seconds,
    "first token": format_seconds,
}
"""Other limits are fractions."""


def limit_use_text(use: LimitUse) -> str:
    """Such as `disk: at most 2.93 MB, limit 2.93 MB (99.9% of the limit)`."""
    shown = _SHOWN.get(use.quantity, format_fraction)
    if use.predicted is None:
        return f"{use.quantity}: limit {shown(use.limit)}, not predicted"
    word = "expected" if use.quantity == "accuracy" else "at most"
    share = f" ({use.predicted / use.limit:.1%} of the limit)" if use.limit else ""
    return f"{use.quantity}: {word} {shown(use.predicted)}, limit {shown(use.limit)}{share}"
