"""`FilterLine`: one line over the footer that narrows a table while it is typed."""

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import ModalScreen
from textual.widgets import Input, Label

if TYPE_CHECKING:
    from edgeprune.tui.widgets.figure_table import FigureTable

__all__ = ["FilterLine"]


class FilterLine(ModalScreen[None]):
    """Enter keeps what was typed, esc shows all rows again."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "lift", "Show all", key_display="esc")]

    def __init__(self, table: "FigureTable") -> None:
        """Name the table."""
        super().__init__()
        self._table = table

    def compose(self) -> ComposeResult:
        """A label, the field, and what ends it."""
        with Horizontal(id="filter-line"):
            yield Label("show rows with", classes="label")
            yield Input(self._table.filter_text, placeholder="some letters", select_on_focus=False)
            yield Label("enter keeps it, esc shows all", classes="label gap-left")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Narrow at once."""
        event.stop()
        self._table.put_filter(event.value)

    def on_input_submitted(self) -> None:
        """Done."""
        self.app.pop_screen()

    def action_lift(self) -> None:
        """All rows."""
        self._table.put_filter("")
        self.app.pop_screen()
