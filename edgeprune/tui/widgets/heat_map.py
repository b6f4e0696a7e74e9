"""`HeatMap`: what stays of every site, a column a block, a row a role; shade and digit tell it, colour repeats it."""

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.widgets import Static

from edgeprune.schema.lock import Lock
from edgeprune.tui.heat import Cell, Heat
from edgeprune.tui.sourced import Sourced
from edgeprune.tui.terminal import Looks

__all__ = ["HeatMap"]

_BITS = {32: "F", 16: "H", 8: "8", 4: "4", None: "x"}
_STYLES = ("$error", "$warning", "$warning", "$secondary", "$secondary")
_HEAD = 7


class HeatMap(Static, can_focus=True):
    """Arrows move over the cells; the line below says what the cell under the cursor is."""

    help_text: ClassVar[str] = (
        "What the recipe leaves of every matrix: columns are blocks, rows are sites. The digit is the width in bits "
        "(F and H are floats of 32 and 16), the shade how much of its parameters stays, x is removed, "
        "! is locked. Arrows move; l locks or unlocks the site under the cursor, b its whole block, and the front is "
        "solved again."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(0, -1)", show=False),
        Binding("right", "move(0, 1)", show=False),
        Binding("up", "move(-1, 0)", show=False),
        Binding("down", "move(1, 0)", show=False),
    ]

    class Pointed(Message):
        """The cursor came to another cell."""

    def __init__(self, looks: Looks, *, id: str | None = None) -> None:
        """Empty until something is shown."""
        super().__init__(id=id, markup=False)
        self._looks = looks
        self.heat: Heat | None = None
        self._locks: tuple[Lock, ...] = ()
        self._record = ""
        self.row, self.column = 0, 0

    def show(self, heat: Heat | None, locks: tuple[Lock, ...], record: str) -> None:
        """Draw a map; None says that there is none yet."""
        if (heat, locks, record) != (self.heat, self._locks, self._record):
            self.heat, self._locks, self._record = heat, locks, record
            self._draw()

    @property
    def cell(self) -> Cell | None:
        """Under the cursor."""
        return None if self.heat is None else self.heat.cell(self.row, self.column)

    @property
    def block(self) -> int | None:
        """Index of the block under the cursor."""
        return None if self.heat is None or not self.heat.blocks else self.heat.blocks[self.column]

    def origins(self) -> Sequence[Sourced]:
        """The cell under the cursor."""
        cell = self.cell
        return [] if cell is None else [Sourced(self._record, f"recipe.sites of {cell.site}", cell.text)]

    def on_mount(self) -> None:
        """Draw the empty state."""
        self._draw()

    def on_resize(self) -> None:
        """More or fewer blocks have room."""
        self._draw()

    def on_focus(self) -> None:
        """The cursor shows."""
        self._draw()

    def on_blur(self) -> None:
        """The cursor hides."""
        self._draw()

    def on_click(self, event: Click) -> None:
        """Point with the mouse."""
        if self.heat is None or event.x < _HEAD or event.y < 1:
            return
        self.row = min(len(self.heat.roles) - 1, event.y - 1)
        self.column = min(len(self.heat.blocks) - 1, self._first() + (event.x - _HEAD) // 3)
        self._pointed()

    def action_move(self, down: int, right: int) -> None:
        """Move the cursor, kept inside."""
        if self.heat is None:
            return
        self.row = min(len(self.heat.roles) - 1, max(0, self.row + down))
        self.column = min(len(self.heat.blocks) - 1, max(0, self.column + right))
        self._pointed()

    def _pointed(self) -> None:
        self._draw()
        self.post_message(self.Pointed())

    def _room(self) -> int:
        return max(1, (self.size.width - _HEAD) // 3)

    def _first(self) -> int:
        """First block shown: the cursor stays in view."""
        assert self.heat is not None
        return max(0, min(self.column - self._room() // 2, len(self.heat.blocks) - self._room()))

    def _draw(self) -> None:
        heat = self.heat
        self.set_class(heat is None, "-empty")
        if heat is None:
            self.update(
                Content.assemble(("Nothing is removed yet: the map comes with the first recipe.", "$text-muted"))
            )
            return
        first, room = self._first(), self._room()
        blocks = heat.blocks[first : first + room]
        held = {lock.pattern for lock in self._locks}
        parts: list[str | tuple[str, str]] = [(f"{'block':<{_HEAD}}", "$text-muted")]
        parts += [(f"{index:>2} ", "$text-muted") for index in blocks]
        for row, role in enumerate(heat.roles):
            parts.append((f"\n{role:<{_HEAD}}", "$text-muted"))
            for place in range(first, first + len(blocks)):
                parts += self._drawn(
                    heat.cells[row][place], heat.blocks[place], held, is_here=(row, place) == (self.row, self.column)
                )
        cell = self.cell
        if cell is not None:
            parts += [
                "\n",
                (f"{cell.site}: "[: self.size.width], "bold"),
                cell.text[: max(0, self.size.width - len(cell.site) - 2)],
            ]
        self.update(Content.assemble(*parts))

    def _drawn(self, cell: Cell, block: int, held: set[str], *, is_here: bool) -> list[str | tuple[str, str]]:
        shades = self._looks.shades
        place = 0 if cell.bits is None else min(len(shades) - 1, max(1, round(cell.kept_fraction * (len(shades) - 1))))
        shade = "x" if cell.bits is None else shades[place]
        lock = "!" if cell.site in held or f"block.{block}" in held else " "
        style = _STYLES[place]
        if is_here and self.has_focus:
            return [(f"{_BITS[cell.bits]}{shade}", "reverse bold"), (lock, "bold")]
        return [(_BITS[cell.bits], "$text-muted"), (shade, style), (lock, "$accent bold")]
