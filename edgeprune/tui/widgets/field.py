"""`Field`: a text field that swallows every letter and digit, and says in the footer how to get out of it."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input

__all__ = ["Field"]


class Field(Input):
    """An `Input` whose way out is seen."""

    help_text: ClassVar[str] = "A field. Letters and digits are text here; enter takes it, esc gives the keys back."
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.leave", "Leave the field", key_display="esc")]
