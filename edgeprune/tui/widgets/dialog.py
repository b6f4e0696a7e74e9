"""`TextDialog`: a page over the screen that any of its keys closes: help, and where figures come from."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

__all__ = ["TextDialog"]


class TextDialog(ModalScreen[None]):
    """A title and a text that scrolls."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,question_mark,i,f1", "app.pop_screen", "Close", key_display="esc"),
    ]

    def __init__(self, title: str, text: str) -> None:
        """Keep both."""
        super().__init__()
        self._title = title
        self._text = text

    def compose(self) -> ComposeResult:
        """A box in the middle."""
        with Vertical(id="dialog") as box:
            box.border_title = self._title
            box.border_subtitle = "esc closes"
            with VerticalScroll():
                yield Static(self._text, markup=False)
