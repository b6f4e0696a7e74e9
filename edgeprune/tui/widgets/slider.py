"""`Slider`: steps through a list of stops by arrow keys, wheel or click."""

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message
from textual.widgets import Static

from edgeprune.tui.terminal import Looks

__all__ = ["Slider"]


class Slider(Static, can_focus=True):
    """One line; the first stop is at the left."""

    help_text: ClassVar[str] = "A slider. Left and right move it by one stop, home lifts the limit; or click on it."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "Less", show=False),
        Binding("right", "step(1)", "More", show=False),
        Binding("home", "first", show=False),
        Binding("end", "last", show=False),
    ]

    class Moved(Message):
        """The user moved it."""

        def __init__(self, slider: "Slider", text: str) -> None:
            """Keep which slider, and where it stands."""
            super().__init__()
            self.slider = slider
            self.text = text

        @property
        def control(self) -> "Slider":
            """The slider, for `@on` selectors."""
            return self.slider

    def __init__(self, looks: Looks, stops: Sequence[str], *, id: str | None = None) -> None:
        """Start at the first stop."""
        super().__init__(id=id, markup=False)
        self._looks = looks
        self.stops = tuple(stops)
        self.index: int | None = 0

    def put(self, index: int | None) -> None:
        """Stand at a stop without telling anybody; None is between the stops."""
        if index != self.index:
            self.index = index
            self._draw()

    def on_mount(self) -> None:
        """Draw the start."""
        self._draw()

    def on_resize(self) -> None:
        """Take the room there is."""
        self._draw()

    def on_focus(self) -> None:
        """The handle shows the focus."""
        self._draw()

    def on_blur(self) -> None:
        """The handle shows the focus."""
        self._draw()

    def action_step(self, count: int) -> None:
        """Move by so many stops."""
        self._move(1 if self.index is None else self.index + count)

    def action_first(self) -> None:
        """Lift the limit."""
        self._move(0)

    def action_last(self) -> None:
        """The tightest stop."""
        self._move(len(self.stops) - 1)

    def on_click(self, event: Click) -> None:
        """Go where it was clicked."""
        self._move(round(event.x / max(1, self.size.width - 1) * (len(self.stops) - 1)))

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """The wheel moves it while it has the focus."""
        if self.has_focus:
            event.stop()
            self.action_step(-1)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """The wheel moves it while it has the focus."""
        if self.has_focus:
            event.stop()
            self.action_step(1)

    def _move(self, index: int) -> None:
        index = min(len(self.stops) - 1, max(0, index))
        if index != self.index:
            self.index = index
            self._draw()
            self.post_message(self.Moved(self, self.stops[index]))

    def _draw(self) -> None:
        if not self.size.width:
            return  # not laid out yet; it is drawn when its size comes
        width = max(3, self.size.width)
        rail, handle = ("-", "O") if self._looks.glyphs == "ascii" else ("─", "█")
        if self.index is None:
            self.update(Content.assemble((rail * width, "$bar-empty")))
            return
        place = round(self.index / max(1, len(self.stops) - 1) * (width - 1))
        style = "$accent bold" if self.has_focus else "$primary bold"
        self.update(
            Content.assemble((rail * place, "$primary"), (handle, style), (rail * (width - place - 1), "$bar-empty"))
        )
