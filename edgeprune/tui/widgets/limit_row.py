"""`LimitRow`: one limit as a field and a slider, and what the choice is predicted to use of it."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Label

from edgeprune.tui.sourced import Sourced
from edgeprune.tui.terminal import Looks
from edgeprune.tui.widgets.field import Field
from edgeprune.tui.widgets.figure import Figure
from edgeprune.tui.widgets.slider import Slider

__all__ = ["LimitRow"]


class LimitField(Field):
    """A field that takes what is typed, and nothing while it only follows the slider."""

    help_text: ClassVar[str] = (
        "A limit, as on the command line: an amount with its unit (40MB, 12ms), or a share of the dense model (30%). "
        "Empty lifts it. The front is solved again while you type; tab goes on to the slider, esc gives the keys back."
    )


class LimitRow(Horizontal):
    """Label, field, slider, figures."""

    class Changed(Message):
        """The user wrote something."""

        def __init__(self, quantity: str, text: str) -> None:
            """Keep which limit, and its text."""
            super().__init__()
            self.quantity = quantity
            self.text = text

    def __init__(self, looks: Looks, quantity: str, title: str, example: str, stops: tuple[str, ...]) -> None:
        """Name the limit and what its slider steps through."""
        super().__init__(classes="row limit", id=f"limit-{quantity}")
        self._looks = looks
        self._quantity = quantity
        self._title = title
        self._example = example
        self._stops = stops

    def compose(self) -> ComposeResult:
        """The parts, in a line."""
        yield Label(self._title, classes="limit-label")
        yield LimitField(placeholder=self._example)  # what is typed replaces the limit that stands there
        yield Slider(self._looks, self._stops)
        yield Figure(classes="limit-use")

    def put(
        self, text: str, used: Sourced | None, limit: Sourced | None, mark: str, share: float | None = None
    ) -> None:
        """Show a draft's text, and the use of the limit as predicted; a field that is being typed in is left alone.

        Args:
            text: as written.
            used: what the choice takes; None where nothing is predicted.
            limit: what it may take, None without one.
            mark: whether that is kept.
            share: limit / the dense model's, for the slider's place where the text is an amount; None when not known.
        """
        field = self.query_one(LimitField)
        if field.value != text and not field.has_focus:
            with field.prevent(Input.Changed):
                field.value = text
        self.query_one(Slider).put(self._place(text, share))
        figure = self.query_one(Figure)
        if used is None:
            figure.figure = None
            figure.update("")
        else:
            figure.show(used, f"{mark} ", "" if limit is None else f" of {limit.text}")
            if limit is not None:
                figure.tooltip = f"{used.origin}\n{limit.origin}"

    def _place(self, text: str, share: float | None) -> int | None:
        """The stop of that text, or the one nearest to an amount's share of the dense model."""
        if text in self._stops:
            return self._stops.index(text)
        shares = [(abs(float(stop[:-1]) / 100 - share), place) for place, stop in enumerate(self._stops)
                  if share is not None and stop.endswith("%")]  # fmt: skip
        return min(shares)[1] if shares else None

    def on_input_changed(self, event: Input.Changed) -> None:
        """Typed."""
        event.stop()
        self.post_message(self.Changed(self._quantity, event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter goes on to the next field."""
        event.stop()
        self.screen.focus_next(LimitField)

    def on_slider_moved(self, event: Slider.Moved) -> None:
        """Moved."""
        event.stop()
        with self.query_one(LimitField).prevent(Input.Changed):
            self.query_one(LimitField).value = event.text
        self.post_message(self.Changed(self._quantity, event.text))
