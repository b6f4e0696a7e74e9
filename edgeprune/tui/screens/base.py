"""`EdgeScreen`: the frame of every screen: navigation, status line, body, footer."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer

from edgeprune.tui.terminal import Looks
from edgeprune.tui.view_state import View
from edgeprune.tui.widgets.nav_bar import NavBar, StatusLine

if TYPE_CHECKING:
    from edgeprune.tui.app import EdgePruneApp

__all__ = ["EdgeScreen", "panel"]


def panel(title: str, *widgets: Widget, id: str | None = None, classes: str = "") -> Vertical:
    """Widgets under a line with a title."""
    made = Vertical(*widgets, id=id, classes=f"panel {classes}".strip())
    made.border_title = title
    return made


class EdgeScreen(Screen[None]):
    """One screen; subclasses say what is in the body and how a view is drawn."""

    AUTO_FOCUS: ClassVar[str | None] = ""
    name_of_screen: ClassVar[str]
    title_text: ClassVar[str]
    help_text: ClassVar[str]

    def __init__(self) -> None:
        """Named after the screen, so that a test and the palette can tell."""
        super().__init__(id=f"screen-{self.name_of_screen}")
        self._was_shown = False

    @property
    def app_(self) -> "EdgePruneApp":
        """The app by its own class."""
        return cast("EdgePruneApp", self.app)

    @property
    def looks(self) -> Looks:
        """What the terminal can show."""
        return self.app_.looks

    def compose(self) -> ComposeResult:
        """The frame around the body."""
        yield NavBar(self.name_of_screen)
        yield StatusLine()
        with Vertical(id="body"):
            yield from self.body()
        yield Footer(compact=True)

    def on_screen_resume(self) -> None:
        """Draw what happened while another screen was in front; the main widget gets the keys."""
        self.show(self.app_.view)
        if self.focused is None:
            self.focus_main()
        if not self._was_shown:
            self._was_shown = True
            self.call_after_refresh(self.app_.keep_what_stands)

    def on_resize(self) -> None:
        """The status line is cut to the width."""
        self.call_after_refresh(lambda: self.show(self.app_.view))

    def show(self, view: View) -> None:
        """Draw a view."""
        if not self.is_mounted or not self.query(StatusLine):
            return
        self.query_one(StatusLine).show(view)
        self.draw(view)

    def body(self) -> Iterable[Widget]:
        """The widgets between status line and footer."""
        raise NotImplementedError

    def draw(self, view: View) -> None:
        """Hand the widgets their part of the view."""
        raise NotImplementedError

    def focus_main(self) -> None:
        """Focus what the user will want to use first; nothing unless a screen says so."""
