"""`Figure`: one number that keeps where it came from; `FigureList`: labels with their figures, one a line."""

from collections.abc import Sequence
from typing import ClassVar

from textual.content import Content
from textual.widgets import Static

from edgeprune.tui.sourced import MISSING, Sourced

__all__ = ["Figure", "FigureLine", "FigureList"]

FigureLine = tuple[str, Sourced, str]
"""Label, figure, and a remark behind it."""


class Figure(Static):
    """One figure with words around it; its tooltip tells record and field."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        """Empty until something is shown."""
        super().__init__(id=id, classes=classes, markup=False)
        self.figure: Sourced | None = None

    def show(self, figure: Sourced, before: str = "", after: str = "") -> None:
        """Draw a figure."""
        self.figure = figure
        self.tooltip = figure.origin
        self.update(Content.assemble(before, (figure.text, "bold"), after))

    def origins(self) -> Sequence[Sourced]:
        """The figure shown."""
        return [] if self.figure is None else [self.figure]


class FigureList(Static, can_focus=True):
    """Lines of a label, a figure and a remark, in aligned columns."""

    help_text: ClassVar[str] = "Figures of one record. Press i to see the record and field each was read from."

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        """Empty until something is shown."""
        super().__init__(id=id, classes=classes, markup=False)
        self.lines: tuple[FigureLine, ...] = ()
        self._heading = ""

    def show(self, lines: Sequence[FigureLine], heading: str = "") -> None:
        """Draw the lines when they are not those that stand there."""
        if (tuple(lines), heading) != (self.lines, self._heading):
            self.lines, self._heading = tuple(lines), heading
            self.tooltip = "\n".join(figure.origin for _, figure, _ in lines) or None
            self._draw()

    def on_resize(self) -> None:
        """Remarks stand where there is room."""
        self._draw()

    def _draw(self) -> None:
        lines, heading = self.lines, self._heading
        labels = max((len(label) for label, _, _ in lines), default=0)
        values = max((len(figure.text) for _, figure, _ in lines), default=0)
        remarks = max((len(remark) for _, _, remark in lines), default=0)
        has_room = labels + values + remarks + 4 <= self.size.width
        parts: list[str | tuple[str, str]] = [f"{heading}\n"] if heading else []
        for label, figure, words in lines:
            remark = words if has_room else ""
            style = "$text-muted" if figure.text == MISSING else "bold"
            parts += [(f"{label:<{labels}}  ", "$text-muted"), (f"{figure.text:>{values}}", style)]
            parts += [(f"  {remark}" if remark else "", "$text-muted"), "\n"]
        self.update(Content.assemble(*parts[:-1]) if parts else "")

    def origins(self) -> Sequence[Sourced]:
        """All figures shown."""
        return [figure for _, figure, _ in self.lines]
