"""`Plot`: lines and marks in a frame of two axes, on whatever glyphs the terminal has."""

from collections.abc import Sequence
from typing import ClassVar

from textual.content import Content
from textual.events import Resize
from textual.widgets import Static

from edgeprune.tui.canvas import Canvas, ticks
from edgeprune.tui.plot_data import Mark, PlotData
from edgeprune.tui.sourced import Sourced
from edgeprune.tui.terminal import Looks

__all__ = ["Plot"]


class Plot(Static, can_focus=True):
    """One plot that fills its widget."""

    help_text: ClassVar[str] = "A plot; kinds differ by shape. Press i to see the records its points were read from."

    def __init__(self, looks: Looks, *, empty: str, id: str | None = None) -> None:
        """Say what stands there while there is nothing to draw."""
        super().__init__(id=id, markup=False)
        self._looks = looks
        self._empty = empty
        self.data: PlotData | None = None

    def show(self, data: PlotData | None, empty: str | None = None) -> None:
        """Draw; None shows the sentence instead."""
        is_same = data == self.data and empty in (None, self._empty)
        self._empty = self._empty if empty is None else empty
        self.data = data
        if not is_same:
            self._draw()

    def on_resize(self, event: Resize) -> None:
        """Draw again for the new size."""
        self._draw()

    def on_mount(self) -> None:
        """Draw the empty state."""
        self._draw()

    def origins(self) -> Sequence[Sourced]:
        """Figures behind the points."""
        return [] if self.data is None else list(self.data.figures)

    def _draw(self) -> None:
        data, width, height = self.data, self.size.width, self.size.height
        self.set_class(data is None, "-empty")
        if data is not None and not width:
            return  # not laid out yet; it is drawn when its size comes
        if data is None or width < 20 or height < 4:
            words = self._empty if data is None else "no room for the plot"
            self.update(Content.assemble((words, "$text-muted")))
            return
        beside = ticks(data.y)
        margin = max(len(text) for _, text in beside) + 1
        extra = 2 + bool(data.title) + bool(data.legend)
        canvas = Canvas(max(4, width - margin - 1), max(2, height - extra), self._looks.glyphs)
        for line in data.lines:
            canvas.line([(data.x.share(x), data.y.share(y)) for x, y in line])
        for mark in data.marks:
            canvas.mark(data.x.share(mark.x), data.y.share(mark.y), mark.character, mark.style)
        for mark in data.marks:
            _label(canvas, data, mark)
        self.update(Content.assemble(*self._framed(canvas, data, beside, margin)))

    def _framed(
        self, canvas: Canvas, data: PlotData, beside: list[tuple[float, str]], margin: int
    ) -> list[str | tuple[str, str]]:
        wall, corner, floor = ("|", "+", "-") if self._looks.glyphs == "ascii" else ("│", "└", "─")
        texts = {round((1.0 - share) * (canvas.height - 1)): text for share, text in beside}
        parts: list[str | tuple[str, str]] = (
            [(f"{data.title[: self.size.width]}\n", "$text-muted")] if data.title else []
        )
        for index, row in enumerate(canvas.rows()):
            parts.append((f"{texts.get(index, ''):>{margin - 1}} {wall}", "$text-muted"))
            parts += [(text, _STYLES.get(style, style)) if style else text for text, style in _joined(row)]
            parts.append("\n")
        parts.append((" " * margin + corner + floor * canvas.width + "\n", "$text-muted"))
        parts.append((" " * (margin + 1) + _below(ticks(data.x), canvas.width), "$text-muted"))
        if data.legend:
            parts.append((f"\n{data.legend}"[: self.size.width + 1], "$text-muted"))
        return parts


_STYLES = {"line": "$plot-line"}


def _label(canvas: Canvas, data: PlotData, mark: Mark) -> None:
    """Write a mark's label beside it where nothing stands; without such a place it is left out."""
    if not mark.label:
        return
    column, row = canvas.cell(data.x.share(mark.x), data.y.share(mark.y))
    length = len(mark.label)
    beside = ((column + 2, row), (column - 1 - length, row))
    around = [(column - length // 2, row + step) for step in (-1, 1)] + [
        (column + 1 - length, row + step) for step in (-1, 1)
    ]
    for start, line in (*beside, *around):
        if canvas.is_free(start, line, length):
            canvas.write(start, line, mark.label, "$text-muted")
            return


def _joined(row: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Neighbours of one style as one text: a plot redraws in a fraction of the time."""
    found: list[tuple[str, str]] = []
    for character, style in row:
        if found and found[-1][1] == style:
            found[-1] = (found[-1][0] + character, style)
        else:
            found.append((character, style))
    return found


def _below(marks: list[tuple[float, str]], width: int) -> str:
    """Texts under the axis at their places; one that would touch its neighbour is left out."""
    line = ""
    for share, text in marks:
        start = min(max(0, round(share * (width - 1)) - len(text) // 2), max(0, width - len(text)))
        if not line or start >= len(line) + 2:
            line = line.ljust(start) + text
    return line
