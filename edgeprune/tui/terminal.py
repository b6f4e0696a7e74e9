"""What the terminal can show: which glyphs, how many colours, whether things may move.

TERM=linux                  the plain console: 16 colours, 256 glyphs, no braille, no rounded corners
no UTF-8 in the locale      ASCII alone
NO_COLOR                    no colour at all (textual filters it); marks and words tell the same
TEXTUAL_ANIMATIONS=none     nothing moves by itself; so do EDGEPRUNE_REDUCED_MOTION and a terminal over ssh
COLORFGBG=...;15            a light background
EDGEPRUNE_THEME             dark, light or console, whatever else was found
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["Glyphs", "Looks", "look_at"]

Glyphs = Literal["braille", "block", "ascii"]
"""Braille: 2 x 4 dots a cell; block: 1 x 2 half blocks a cell; ascii: one mark a cell."""

_PLAIN_TERMS = ("linux", "vt100", "vt102", "vt220", "ansi", "cons25", "xterm-16color")
_LIGHT = ("7", "15")


@dataclass(frozen=True)
class Looks:
    """How the app looks in this terminal."""

    glyphs: Glyphs = "braille"
    theme: str = "edgeprune-dark"
    has_motion: bool = True
    has_colour: bool = True

    @property
    def bar(self) -> tuple[str, str]:
        """The full and the empty cell of a bar."""
        return ("#", "-") if self.glyphs == "ascii" else ("█", "░")

    @property
    def shades(self) -> tuple[str, ...]:
        """From nothing to everything; shape tells what colour tells."""
        return (" ", ".", ":", "=", "#") if self.glyphs == "ascii" else (" ", "░", "▒", "▓", "█")

    @property
    def marks(self) -> dict[str, str]:
        """Verdicts and states as marks beside their words."""
        if self.glyphs == "ascii":
            return _ASCII_MARKS
        return _CONSOLE_MARKS if self.glyphs == "block" else _MARKS


_MARKS = {"met": "✓", "not_met": "✗", "unmeasured": "?", "running": "▶", "done": "✓", "failed": "✗", "waiting": "·",
          "skipped": "=", "chosen": "◆", "front": "●", "plain": "■"}  # fmt: skip
_CONSOLE_MARKS = {"met": "√", "not_met": "x", "unmeasured": "?", "running": "►", "done": "√", "failed": "x",
                  "waiting": "·", "skipped": "=", "chosen": "@", "front": "o", "plain": "■"}  # fmt: skip
_ASCII_MARKS = {"met": "+", "not_met": "x", "unmeasured": "?", "running": ">", "done": "+", "failed": "x",
                "waiting": ".", "skipped": "=", "chosen": "@", "front": "o", "plain": "#"}  # fmt: skip


def look_at(environ: Mapping[str, str]) -> Looks:
    """Read what the environment tells of the terminal."""
    term = environ.get("TERM", "")
    is_plain = term in _PLAIN_TERMS
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or ""
    has_utf8 = "utf" in locale.lower() or not locale
    is_c = locale in ("C", "POSIX")
    glyphs: Glyphs = "ascii" if is_c or not has_utf8 else "block" if is_plain else "braille"
    wanted = environ.get("EDGEPRUNE_THEME", "").lower()
    if wanted in ("dark", "light", "console"):
        theme = f"edgeprune-{wanted}"
    elif is_plain:
        theme = "edgeprune-console"
    else:
        theme = "edgeprune-light" if environ.get("COLORFGBG", "").split(";")[-1] in _LIGHT else "edgeprune-dark"
    moves = environ.get("TEXTUAL_ANIMATIONS", "full").lower() != "none"
    moves = moves and not environ.get("EDGEPRUNE_REDUCED_MOTION") and "SSH_CONNECTION" not in environ
    return Looks(glyphs=glyphs, theme=theme, has_motion=moves and not is_plain, has_colour="NO_COLOR" not in environ)
