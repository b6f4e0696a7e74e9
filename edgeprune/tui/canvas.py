"""A plot as lines of text: points, lines and steps on braille, half-block or ASCII cells.

No plotting library and no numpy: the app must be on the screen before they are imported, and the Linux console has
no braille. Marks drawn with `mark` are whole characters over the dots, so kinds differ by shape and not by colour.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from edgeprune.tui.terminal import Glyphs

__all__ = ["Axis", "Canvas", "ticks"]

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_CELLS = {"braille": (2, 4), "block": (1, 2), "ascii": (1, 1)}


@dataclass(frozen=True)
class Axis:
    """One axis: its ends, its scale and how its values are written."""

    low: float
    high: float
    write: Callable[[float], str]
    scale: Callable[[float], float] = float
    """Monotone; `math.log` for a logarithmic axis."""
    tick_values: tuple[float, ...] = ()
    """Values to write beside the axis; those outside are left out. Empty: the two ends and the middle."""

    def share(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 1 inside."""
        low, high = self.scale(self.low), self.scale(self.high)
        return 0.5 if high == low else (self.scale(value) - low) / (high - low)


@dataclass
class Canvas:
    """A grid of `width` x `height` characters."""

    width: int
    height: int
    glyphs: Glyphs = "braille"
    _dots: dict[tuple[int, int], int] = field(default_factory=dict)
    _marks: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)

    @property
    def dots_across(self) -> int:
        """Dots in a row."""
        return self.width * _CELLS[self.glyphs][0]

    @property
    def dots_down(self) -> int:
        """Dots in a column."""
        return self.height * _CELLS[self.glyphs][1]

    def dot(self, x: float, y: float) -> None:
        """One dot; x and y in [0, 1], y upwards; outside nothing is drawn."""
        column, row = round(x * (self.dots_across - 1)), round((1.0 - y) * (self.dots_down - 1))
        if not (0 <= column < self.dots_across and 0 <= row < self.dots_down):
            return
        across, down = _CELLS[self.glyphs]
        cell = (column // across, row // down)
        inside = row % down
        bit = _DOTS[inside][column % across] if self.glyphs == "braille" else 1 << inside
        self._dots[cell] = self._dots.get(cell, 0) | bit

    def line(self, points: Sequence[tuple[float, float]]) -> None:
        """Dots along straight pieces between points."""
        for (x0, y0), (x1, y1) in pairwise(points):
            across, down = abs(x1 - x0) * (self.dots_across - 1), abs(y1 - y0) * (self.dots_down - 1)
            steps = max(1, math.ceil(max(across, down)))
            for step in range(steps + 1):
                share = step / steps
                self.dot(x0 + share * (x1 - x0), y0 + share * (y1 - y0))

    def mark(self, x: float, y: float, character: str, style: str = "") -> None:
        """One character over the dots, kept inside the edges."""
        self._marks[self.cell(x, y)] = (character, style)

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """Column and row of the cell that a dot there falls into, the nearest one inside."""
        across, down = _CELLS[self.glyphs]
        column = round(x * (self.dots_across - 1)) // across
        row = round((1.0 - y) * (self.dots_down - 1)) // down
        return min(self.width - 1, max(0, column)), min(self.height - 1, max(0, row))

    def is_free(self, column: int, row: int, length: int) -> bool:
        """Whether a stretch of cells lies inside and is empty."""
        if not (0 <= row < self.height and column >= 0 and column + length <= self.width):
            return False
        cells = [(place, row) for place in range(column, column + length)]
        return not any(cell in self._marks or self._dots.get(cell) for cell in cells)

    def write(self, column: int, row: int, text: str, style: str) -> None:
        """Text over the cells from a place on."""
        for offset, character in enumerate(text):
            self._marks[column + offset, row] = (character, style)

    def rows(self) -> list[list[tuple[str, str]]]:
        """Rows of (character, style name), top first; dots have the style `line`, empty cells none."""
        found = []
        for row in range(self.height):
            cells = []
            for column in range(self.width):
                mark = self._marks.get((column, row))
                dots = self._dots.get((column, row), 0)
                cells.append(mark or ((self._character(dots), "line") if dots else (" ", "")))
            found.append(cells)
        return found

    def _character(self, dots: int) -> str:
        if self.glyphs == "braille":
            return chr(0x2800 + dots)
        if self.glyphs == "block":
            return {1: "▀", 2: "▄", 3: "█"}[dots]
        return "."


def ticks(axis: Axis) -> list[tuple[float, str]]:
    """Positions in [0, 1] and texts to write beside an axis."""
    if axis.tick_values:
        shown = [(axis.share(value), axis.write(value)) for value in axis.tick_values]
        inside = [(share, text) for share, text in shown if -1e-9 <= share <= 1 + 1e-9]
        if len(inside) >= 2:
            return inside
    if axis.scale is float and axis.high > axis.low:
        return [(axis.share(value), axis.write(value)) for value in _even(axis.low, axis.high)]
    return [(0.0, axis.write(axis.low)), (1.0, axis.write(axis.high))]


def _even(low: float, high: float) -> list[float]:
    """Three to six round values in a range."""
    rough = (high - low) / 4.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]
