"""Ends an answer before a stop text, and never shows a reader the beginning of one."""

from collections.abc import Sequence

__all__ = ["StopTexts"]


class StopTexts:
    """Text goes in as it is decoded; out comes what can no longer become part of a stop text."""

    def __init__(self, stops: Sequence[str]) -> None:
        """Remember the stop texts."""
        self._stops = tuple(stops)
        self._held = ""
        self.is_hit = False

    def feed(self, text: str) -> str:
        """More text; gives what may be shown. After a stop text was found, nothing more is."""
        if self.is_hit:
            return ""
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.is_hit = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        shown = self._held[: len(self._held) - keep]
        self._held = self._held[len(shown) :]
        return shown

    def flush(self) -> str:
        """What was held back, once no more text comes."""
        shown, self._held = ("" if self.is_hit else self._held), ""
        return shown

    def _overlap(self, stop: str) -> int:
        """Characters at the end of the held text that begin a stop text."""
        longest = min(len(stop) - 1, len(self._held))
        return next((size for size in range(longest, 0, -1) if self._held.endswith(stop[:size])), 0)
