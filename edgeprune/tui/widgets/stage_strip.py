"""`StageStrip`: the stages of the followed job by mark and word, and a bar with the time left for the one at work."""

from typing import ClassVar

from textual.content import Content
from textual.widgets import Static

from edgeprune.tui.terminal import Looks
from edgeprune.tui.view_state import StageView
from edgeprune.units import format_seconds

__all__ = ["StageStrip"]

_STYLES = {"done": "$text-success", "running": "$text-primary bold", "failed": "$text-error bold",
           "skipped": "$text-muted", "waiting": "$text-muted"}  # fmt: skip


class StageStrip(Static, can_focus=True):
    """Two or three lines."""

    help_text: ClassVar[str] = (
        "How far the followed job is. Screen 7 lists all jobs; closing the app stops none of them."
    )

    def __init__(self, looks: Looks, *, id: str | None = None) -> None:
        """Empty until something is shown."""
        super().__init__(id=id, markup=False)
        self._looks = looks
        self._shown: tuple[tuple[StageView, ...], str] = ((), "")

    def show(self, stages: tuple[StageView, ...], empty: str) -> None:
        """Draw the stages; without any, a sentence that says what to press."""
        if (stages, empty) != self._shown:
            self._shown = (stages, empty)
            self._draw()

    def on_mount(self) -> None:
        """Draw what was given before."""
        self._draw()

    def on_resize(self) -> None:
        """The bar takes the room there is."""
        self._draw()

    def _draw(self) -> None:
        stages, empty = self._shown
        if not stages:
            self.update(Content.assemble((empty, "$text-muted")))
            return
        marks = self._looks.marks
        parts: list[str | tuple[str, str]] = []
        for stage in stages:
            parts += [(f"{marks[stage.state]}{stage.name}", _STYLES[stage.state]), " "]
        self.update(Content.assemble(*parts, "\n", *self._bar(stages)))

    def _bar(self, stages: tuple[StageView, ...]) -> list[str | tuple[str, str]]:
        running = next((stage for stage in stages if stage.state == "running"), None)
        if running is None:
            last = next((stage for stage in reversed(stages) if stage.state in ("done", "failed")), None)
            return [] if last is None else [(_cut(f"{last.name}: {last.message or last.state}", self.size.width), "")]
        left = f"{format_seconds(running.remaining_s)} left" if running.remaining_s else "time left not known"
        share = running.done_fraction or 0.0
        tail = f" {share:4.0%}  {left}  {running.message}"
        length = max(8, min(30, self.size.width - 60))
        full, empty = self._looks.bar
        count = round(share * length)
        return [
            (f"{running.name} ", "bold"),
            (full * count, "$primary"),
            (empty * (length - count), "$bar-empty"),
            _cut(tail, self.size.width - length - len(running.name) - 1),
        ]


def _cut(text: str, width: int) -> str:
    """Text of at most that many cells, its end replaced by dots."""
    return text if len(text) <= width else f"{text[: max(0, width - 2)]}.."
