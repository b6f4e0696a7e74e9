"""`Bars`: labelled bars with their figures, one a line; what is beyond a limit says so in a word."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.content import Content
from textual.widgets import Static

from edgeprune.tui.sourced import Sourced
from edgeprune.tui.terminal import Looks

__all__ = ["Bar", "Bars"]


@dataclass(frozen=True)
class Bar:
    """One bar."""

    label: str
    share: float | None
    """Filled share, 0 to 1; None draws no bar, only words."""
    figures: tuple[Sourced, ...]
    """Written behind the bar, joined by `joint`."""
    joint: str = " of "
    remark: str = ""
    style: str = "$primary"


class Bars(Static, can_focus=True):
    """Bars of equal length under each other."""

    help_text: ClassVar[str] = "Bars with their figures. Press i to see the record and field each was read from."

    def __init__(self, looks: Looks, *, id: str | None = None, most: int = 40) -> None:
        """Empty until something is shown.

        Args:
            looks: which glyphs the terminal has.
            id: textual's.
            most: cells of a bar at most.
        """
        super().__init__(id=id, markup=False)
        self._looks = looks
        self._most = most
        self.bars: tuple[Bar, ...] = ()

    def show(self, bars: Sequence[Bar]) -> None:
        """Draw the bars when they are not those that stand there."""
        if tuple(bars) != self.bars:
            self.bars = tuple(bars)
            self._draw()

    def on_resize(self) -> None:
        """The bars take the room there is."""
        self._draw()

    def origins(self) -> Sequence[Sourced]:
        """All figures shown."""
        return [figure for bar in self.bars for figure in bar.figures]

    def _draw(self) -> None:
        labels = max((len(bar.label) for bar in self.bars), default=0)
        texts = [bar.joint.join(figure.text for figure in bar.figures) for bar in self.bars]
        widest = max(map(len, texts), default=0)
        remarks = max((len(bar.remark) + 2 for bar in self.bars if bar.remark), default=0)
        length = max(4, min(self._most, self.size.width - labels - widest - remarks - 4))
        full, empty = self._looks.bar
        parts: list[str | tuple[str, str]] = []
        for bar, text in zip(self.bars, texts, strict=True):
            parts.append((f"{bar.label:<{labels}}  ", "$text-muted"))
            if bar.share is None:
                parts.append(" " * length)
            else:
                count = min(length, max(0, round(bar.share * length)))
                parts += [(full * count, bar.style), (empty * (length - count), "$bar-empty")]
            parts += [(f"  {text:>{widest}}", "bold"), f"  {bar.remark}" if bar.remark else "", "\n"]
        self.tooltip = "\n".join(figure.origin for figure in self.origins()) or None
        self.update(Content.assemble(*parts[:-1]) if parts else "")
