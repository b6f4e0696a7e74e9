"""`EdgePruneApp`: owns the view, reduces every message into it, and lets the screen in front draw it.

Handlers on the event loop only reduce and draw; whatever waits is asked of the `Feed`. Screens are imported when they
are first shown. Quitting stops the feed and touches no job.
"""

import os
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.scrollbar import ScrollBar, ScrollBarRender
from textual.widget import Widget

from edgeprune.errors import EdgePruneError, UsageError
from edgeprune.schema.explanation import Explanation
from edgeprune.schema.jobs import ExplainJob, Job, JobRequest, ProfileJob, kind_of
from edgeprune.tui import messages as told
from edgeprune.tui.draft import budget_request, context_of
from edgeprune.tui.feed import Feed, Sources
from edgeprune.tui.happened import Happened
from edgeprune.tui.pauses import IMPORTS_SETTLED_S, keep_what_stands
from edgeprune.tui.plain import PlainScrollBar
from edgeprune.tui.reduce import FOLLOWED, reduce
from edgeprune.tui.terminal import Looks, look_at
from edgeprune.tui.themes import THEMES
from edgeprune.tui.view_state import View
from edgeprune.tui.widgets.nav_bar import SCREEN_NAMES

__all__ = ["EdgePruneApp", "run"]

SOLVE_AFTER_S = 0.25
"""A slider that moves asks once it rests this long."""


def _screen(name: str) -> Callable[[], Screen[Any]]:
    def load() -> Screen[Any]:
        module = import_module(f"edgeprune.tui.screens.{name}")
        screen: Screen[Any] = getattr(module, f"{name.capitalize()}Screen")()
        return screen

    return load


class EdgePruneApp(App[None]):
    """The terminal app."""

    TITLE = "EdgePrune"
    CSS_PATH = "edgeprune.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]  # noqa: RUF012 - as textual declares it
    SCREENS: ClassVar[dict[str, Callable[[], Screen[Any]]]] = {name: _screen(name) for name in SCREEN_NAMES}
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(number), f"go('{name}')", name.capitalize(), show=False)
          for number, name in enumerate(SCREEN_NAMES, start=1)),
        Binding("left_square_bracket", "neighbour(-1)", "Screen before", show=False),
        Binding("right_square_bracket", "neighbour(1)", "Next screen", show=False),
        Binding("escape", "leave", "Leave the field", show=False),
        Binding("i", "origins", "Where a figure is from", show=False),
        Binding("question_mark,f1", "explain_widget", "Help", key_display="?"),
        Binding("ctrl+q", "quit", "Quit"),
    ]  # fmt: skip

    def __init__(self, sources: Sources, *, looks: Looks | None = None, first: str = "device") -> None:
        """Nothing runs yet.

        Args:
            sources: where jobs, solver, meters, models and profiles come from.
            looks: what the terminal can show; None looks at the environment.
            first: the screen to open with.
        """
        self.looks = looks or look_at(os.environ)
        super().__init__()
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = self.looks.theme
        if not self.looks.has_motion:
            self.animation_level = "none"
        is_plain = self.looks.glyphs != "braille"
        self.set_class(is_plain, "-plain")
        ScrollBar.renderer = PlainScrollBar if is_plain else ScrollBarRender  # of all apps of this process
        self.view = View()
        self.feed = Feed(sources, self.hear, is_calm=not self.looks.has_motion)
        self._first = first
        self._is_draw_due = False
        self._solve_timer: Any = None
        self._asked: dict[str, Callable[[Job], None]] = {}

    def on_mount(self) -> None:
        """Show the first screen; the feed starts once it stands."""
        self.push_screen(self._first)
        self.call_after_refresh(self.feed.start)
        self.set_timer(IMPORTS_SETTLED_S, self.keep_what_stands)

    def keep_what_stands(self) -> None:
        """See `pauses`; not in a test, where many apps follow one another in one process."""
        if not self.is_headless:
            keep_what_stands()

    def on_unmount(self) -> None:
        """Let go of everything; jobs go on."""
        self.feed.stop()

    def hear(self, message: told.Message) -> None:
        """Take a message from any thread."""
        self.post_message(Happened(message))

    def on_happened(self, message: Happened) -> None:
        """Something happened in a thread of the feed."""
        self.tell(message.told)

    def tell(self, message: told.Message) -> None:
        """Reduce a message into the view, do what follows from it, and draw."""
        before, self.view = self.view, reduce(self.view, message)
        if self.view is before:
            return
        self._follow_up(before, self.view)
        if not self._is_draw_due:
            # Behind all messages that are waiting: a replayed history is drawn once.
            self._is_draw_due = True
            self.call_later(self._draw)

    def submit(self, request: JobRequest, *, shows: str | None = None) -> None:
        """Hand in a job; work on a run folder is followed, and `shows` is the screen to go to."""

        def then(job: Job) -> None:
            if kind_of(request) in FOLLOWED:
                self.hear(told.Followed(job.id, job.run_folder))

        self.feed.submit(request, then)
        if shows is not None:
            self.action_go(shows)

    def say(self, sentence: str, is_problem: bool = False) -> None:
        """A sentence in the status line; empty takes the last one away."""
        self.tell(told.Said(sentence, is_problem=is_problem))

    def attempt(self, work: Callable[[], object]) -> None:
        """Do something that may refuse what the user wrote; the refusal becomes a sentence."""
        try:
            work()
        except EdgePruneError as error:
            self.say(str(error), is_problem=True)

    def explain_run(self) -> None:
        """Ask why the run's recipe is what it is."""
        if self.view.run_folder is None or self.view.records.front is None:
            self.say("There is nothing to explain yet; a search must have ended (press s on screen 3).")
            return
        self.say("Asking why this recipe was chosen and what else could have been.")
        self.feed.fetch(
            ExplainJob(path=self.view.run_folder),
            Explanation,
            lambda found: self.hear(told.Explained(found)),
        )

    def action_go(self, name: str) -> None:
        """Go to a screen."""
        if isinstance(self.screen, Screen) and not self.screen.is_modal:
            self.switch_screen(name)
            if self.view.sentence:
                self.say("")

    def action_neighbour(self, step: int) -> None:
        """Go to the screen before or after."""
        names = [name for name in SCREEN_NAMES if self.screen.id == f"screen-{name}"]
        if names:
            self.action_go(SCREEN_NAMES[(SCREEN_NAMES.index(names[0]) + step) % len(SCREEN_NAMES)])

    def action_leave(self) -> None:
        """Give the keys back to the screen."""
        self.screen.set_focus(None)
        self.say("")

    def action_origins(self) -> None:
        """Where the figures of the focused widget come from; of the whole screen when none is focused."""
        from edgeprune.tui.widgets.dialog import TextDialog  # only once it is asked for

        focused = self.focused
        widgets: Iterable[Widget] = (
            [focused] if focused is not None and hasattr(focused, "origins") else self.screen.query("*")
        )
        found = [figure for widget in widgets if hasattr(widget, "origins") for figure in widget.origins()]
        lines = [figure.origin for figure in dict.fromkeys(found)]
        self.push_screen(
            TextDialog("Where these figures are from", "\n".join(lines) or "There are no figures here yet.")
        )

    def action_explain_widget(self) -> None:
        """Help for the focused widget, and the keys of the screen."""
        from edgeprune.tui.help_text import help_for  # only once it is asked for
        from edgeprune.tui.widgets.dialog import TextDialog

        self.push_screen(TextDialog(*help_for(self)))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The command palette: every screen, every key of this one, and textual's own."""
        for number, name in enumerate(SCREEN_NAMES, start=1):
            yield SystemCommand(
                f"Go to {name.capitalize()}", f"Screen {number}", lambda name=name: self.action_go(name)
            )
        for active in screen.active_bindings.values():
            binding = active.binding
            if binding.show and binding.description and active.node is not self:
                yield SystemCommand(
                    binding.description, f"Key {self.get_key_display(binding)}",
                    lambda action=binding.action, node=active.node: self.run_worker(self.run_action(action, node)),
                )  # fmt: skip
        yield from super().get_system_commands(screen)

    def _follow_up(self, before: View, after: View) -> None:
        if after.followed is not None and after.followed != before.followed:
            self.feed.follow(after.followed)
        elif after.followed is not None and _goes_on(before.job(after.followed), after.job(after.followed)):
            self.feed.follow(after.followed, since=after.last_sequence)
        if after.run_folder != before.run_folder:
            self.feed.watch(after.run_folder)
        wanted = (after.draft.limits, after.draft.context, after.draft.locks)
        has_scores = before.records.front is not None and after.records.front is not None
        if has_scores and wanted != (before.draft.limits, before.draft.context, before.draft.locks):
            self._solve_soon()
        if after.jobs is not before.jobs and before.has_listed:  # what the first list tells ended in the past
            known = {job.id: job.state for job in before.jobs}
            ended = [job for job in after.jobs if job.is_over and known.get(job.id) != job.state]
            for job in ended:
                if isinstance(job.request, ProfileJob):  # nobody follows it, and its end is waited for
                    self.feed.look_around()
                    self.say(*_profiled(job))

    def _solve_soon(self) -> None:
        if self._solve_timer is not None:
            self._solve_timer.stop()
        self._solve_timer = self.set_timer(SOLVE_AFTER_S, self._solve)

    def _solve(self) -> None:
        folder, draft = self.view.run_folder, self.view.draft
        if folder is None:
            return
        try:
            self.feed.solve(folder, budget_request(draft), context_of(draft), draft.locks)
        except UsageError as error:  # half a number, while it is being typed
            self.say(str(error), is_problem=True)

    def _draw(self) -> None:
        self._is_draw_due = False
        show = getattr(self.screen, "show", None)
        if show is not None:
            show(self.view)


def _profiled(job: Job) -> tuple[str, bool]:
    """What to say of a profile job that has ended, and whether it is a problem."""
    if job.state == "succeeded":
        name = getattr(job.request, "save", None)
        kept = f" and is kept as {name!r}; enter on it uses it for the next run" if name else ""
        return f"The device was measured{kept}.", False
    return f"The device was not measured: {job.error or job.state}", job.state == "failed"


def _goes_on(before: Job | None, after: Job | None) -> bool:
    """Whether a job that was over was resumed, here or on the command line."""
    if before is None or after is None or not before.is_over:
        return False
    # It may be over again before the next list of jobs.
    return (before.state, before.started_s) != (after.state, after.started_s)


def run(sources: Sources | None = None) -> None:
    """Open the app in this terminal and wait until it is closed."""
    if sources is None:
        from edgeprune.tui.sources import real_sources

        sources = real_sources()
    EdgePruneApp(sources).run()
