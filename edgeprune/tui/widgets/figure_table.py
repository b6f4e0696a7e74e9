"""`FigureTable`: a table whose cells are figures; the row under the cursor tells where its figures come from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.coordinate import Coordinate
from textual.widgets import DataTable

from edgeprune.tui.sourced import Sourced

__all__ = ["Column", "FigureTable", "LongTable", "Row"]


@dataclass(frozen=True)
class Column:
    """One column."""

    title: str
    is_text: bool = False
    """Aligned left; figures are aligned right."""
    width: int | None = None
    """None takes what the widest cell needs."""
    is_wide_only: bool = False
    """Left out, with its cells, where the screen is narrow."""


@dataclass(frozen=True)
class Row:
    """One row."""

    key: str
    cells: tuple[str | Sourced, ...]
    is_strong: bool = False
    """Drawn bold, beside the mark that says why."""
    is_weak: bool = False
    """Drawn dim."""


def _widths(columns: tuple[Column, ...], rows: tuple[Row, ...]) -> tuple[int, ...]:
    """Cells that each column needs."""
    return tuple(
        column.width or max(cell_len(column.title), *(cell_len(_text(row.cells[place])) for row in rows), 0)
        for place, column in enumerate(columns)
    )


def _text(cell: str | Sourced) -> str:
    return cell if isinstance(cell, str) else cell.text


def _words(row: Row) -> str:
    return "\n".join((row.key, *map(_text, row.cells))).lower()


def _noted(columns: tuple[Column, ...], note: str) -> tuple[Column, ...]:
    """The first column that names rows tells what they are filtered by."""
    place = next((place for place, column in enumerate(columns) if column.title), 0)
    return tuple(
        replace(column, title=f"{column.title} {note}") if index == place else column
        for index, column in enumerate(columns)
    )


class FigureTable(DataTable[Text]):
    """A `DataTable` that is given whole contents and redraws only what changed."""

    help_text: ClassVar[str] = (
        "A table. Arrows or j and k move, enter chooses the row, / filters, i tells where its figures are from."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Choose", key_display="enter"),
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
        Binding("home,g", "scroll_top", show=False),
        Binding("end,G", "scroll_bottom", show=False),
        Binding("slash", "filter", "Filter", key_display="/", show=False),
    ]

    def __init__(
        self, *, id: str | None = None, help_text: str = "", can_choose: bool = True, newest_first: bool = False
    ) -> None:
        """Empty until something is shown.

        Args:
            id: textual's.
            help_text: what `?` says of it; empty says what tables are for.
            can_choose: whether enter does something.
            newest_first: rows come at the top, and a cursor that is there goes with them.
        """
        super().__init__(id=id, cursor_type="row", zebra_stripes=False, cell_padding=1)
        self.columns_shown: tuple[Column, ...] = ()
        self.rows_shown: tuple[Row, ...] = ()
        self._widths_shown: tuple[int, ...] = ()
        self.filter_text = ""
        self._given: tuple[tuple[Column, ...], tuple[Row, ...]] = ((), ())
        self._can_choose = can_choose
        self._newest_first = newest_first
        if help_text:
            self.help_text = help_text  # type: ignore[misc]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enter is offered only where it does something."""
        return self._can_choose if action == "select_cursor" else super().check_action(action, parameters)

    def show(self, columns: Sequence[Column], rows: Sequence[Row], *, is_narrow: bool = False) -> None:
        """Draw the table; the cursor stays on the row of the same key."""
        places = [place for place, column in enumerate(columns) if not (is_narrow and column.is_wide_only)]
        wanted = tuple(columns[place] for place in places)
        self._given = wanted, tuple(replace(row, cells=tuple(row.cells[place] for place in places)) for row in rows)
        self._show_given()

    def put_filter(self, text: str) -> None:
        """Show only rows that have this text in a cell or in their key; empty shows all."""
        if text.strip() != self.filter_text:
            self.filter_text = text.strip()
            self._show_given()

    def action_filter(self) -> None:
        """Ask for the text that rows must have."""
        from edgeprune.tui.widgets.filter_line import FilterLine  # only once it is asked for

        self.app.push_screen(FilterLine(self))

    def _show_given(self) -> None:
        wanted, cells = self._given
        if self.filter_text:
            wanted = _noted(wanted, f"/{self.filter_text}")
            cells = tuple(row for row in cells if self.filter_text.lower() in _words(row))
        if wanted == self.columns_shown and cells == self.rows_shown:
            return
        key = self.key_at_cursor
        # Widths are given: textual 8 measures them when it is idle, and a cell drawn before that stays cut off.
        widths = _widths(wanted, cells)
        is_same_grid = wanted == self.columns_shown and widths == self._widths_shown
        if is_same_grid and [row.key for row in cells] == [row.key for row in self.rows_shown]:
            self._update(cells)
            return
        was_at_top = self.cursor_row == 0
        self.clear(columns=True)
        for column, width in zip(wanted, widths, strict=True):
            self.add_column(Text(column.title, justify="left" if column.is_text else "right"), width=width)
        for row in cells:
            self.add_row(*self._drawn(wanted, row), key=row.key)
        self.columns_shown, self.rows_shown, self._widths_shown = wanted, cells, widths
        keys = [row.key for row in cells]
        if key in keys and not (self._newest_first and was_at_top):
            self.move_cursor(row=keys.index(key))

    def _update(self, rows: tuple[Row, ...]) -> None:
        for index, (old, new) in enumerate(zip(self.rows_shown, rows, strict=True)):
            if old == new:
                continue
            for column, cell in enumerate(self._drawn(self.columns_shown, new)):
                self.update_cell_at(Coordinate(index, column), cell)
        self.rows_shown = rows

    def _drawn(self, columns: tuple[Column, ...], row: Row) -> list[Text]:
        style = "bold" if row.is_strong else "dim" if row.is_weak else ""
        return [
            Text(_text(cell), style=style,
                 justify="left" if column.is_text else "right", no_wrap=True)
            for column, cell in zip(columns, row.cells, strict=True)
        ]  # fmt: skip

    @property
    def key_at_cursor(self) -> str | None:
        """Key of the row under the cursor; None in an empty table."""
        return self.rows_shown[self.cursor_row].key if 0 <= self.cursor_row < len(self.rows_shown) else None

    def origins(self) -> Sequence[Sourced]:
        """The figures of the row under the cursor."""
        if not 0 <= self.cursor_row < len(self.rows_shown):
            return []
        return [cell for cell in self.rows_shown[self.cursor_row].cells if isinstance(cell, Sourced)]


class LongTable(FigureTable):
    """A table that may grow beyond the screen, and says in the footer that it can be filtered."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("slash", "filter", "Filter", key_display="/")]
