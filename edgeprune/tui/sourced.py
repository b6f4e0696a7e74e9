"""`Sourced`: one figure together with the record and the field it was read from.

A screen never holds a number of its own. It names a record and a path inside it, such as `front.json` and
`chosen.cost.disk_bytes`; the text on screen follows from them, and the user can ask where any figure comes from.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edgeprune.units import format_bytes, format_fraction, format_rate, format_seconds

__all__ = ["MISSING", "Kind", "Source", "Sourced", "rounded"]

Kind = Literal["bytes", "seconds", "fraction", "change", "rate", "tokens_per_s", "count", "parameters", "bits", "text"]

MISSING = "n/a"
"""What stands where a record has no figure: never 0."""

_STEP = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)|\[(-?[0-9]+)\]|\[\"([^\"]*)\"\]")


@dataclass(frozen=True)
class Sourced:
    """One figure, where it comes from, and how it is written."""

    record: str
    """Id of the record: its file in the run folder, or what made it, such as `meters (live)`."""
    field: str
    """Path inside the record."""
    value: object
    """As the record has it; None is a missing figure."""
    kind: Kind = "text"

    @property
    def text(self) -> str:
        """As it stands on the screen."""
        return rounded(self.value, self.kind)

    @property
    def origin(self) -> str:
        """Where it comes from, in a line."""
        return f"{self.text}  <-  {self.record} : {self.field}"


@dataclass(frozen=True)
class Source:
    """A record that figures are read from; the record may be missing, then all its figures are."""

    record: str
    content: object | None

    def take(self, path: str, kind: Kind = "text") -> Sourced:
        """The figure at a path such as `front[2].cost.decode_s.value` or `sites["q"]`; None where the path ends early.

        Raises:
            AttributeError: the record has no such field, which is our mistake.
        """
        found: object | None = self.content
        for match in _STEP.finditer(path):
            if found is None:
                break
            name, index, key = match.groups()
            if name is not None:
                found = getattr(found, name)
            elif key is not None:
                found = found.get(key) if isinstance(found, dict) else None
            else:
                found = _item(found, int(index))
        return Sourced(self.record, path, found, kind)


def _item(found: object, index: int) -> object | None:
    if not isinstance(found, (tuple, list)) or not -len(found) <= index < len(found):
        return None
    item: object = found[index]
    return item


def rounded(value: object, kind: Kind) -> str:
    """A figure with its unit, `n/a` for a missing one."""
    if value is None:
        return MISSING
    if kind == "text" or isinstance(value, (str, bool)) or not isinstance(value, (int, float)):
        return str(value)
    return _WRITERS[kind](float(value))


def _parameters(count: float) -> str:
    return f"{count / 1e9:.2f} B" if count >= 999.5e6 else f"{count / 1e6:.1f} M"


def _signed(percent: float) -> str:
    text = f"{percent:+.1f}"
    return "0.0" if text in ("-0.0", "+0.0") else text  # what rounds to nothing has no sign


_WRITERS: dict[str, Callable[[float], str]] = {
    "bytes": format_bytes,
    "seconds": format_seconds,
    "fraction": format_fraction,
    "change": lambda value: f"{_signed(value * 100)} %",
    "rate": format_rate,
    "tokens_per_s": lambda value: f"{value:.0f} tok/s" if value >= 10 else f"{value:.1f} tok/s",
    "count": lambda value: f"{value:,.0f}",
    "parameters": _parameters,
    "bits": lambda value: f"{value:.3f}",
}
