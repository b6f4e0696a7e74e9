"""`NavBar`: the screens by number, and `StatusLine`: what is chosen and what is running, under it."""

from textual.content import Content
from textual.widgets import Static

from edgeprune.schema.jobs import kind_of
from edgeprune.tui.draft import draft_sentence
from edgeprune.tui.view_state import View
from edgeprune.units import format_seconds

__all__ = ["SCREEN_NAMES", "NavBar", "StatusLine"]

SCREEN_NAMES = ("device", "model", "budget", "search", "bundle", "validate", "jobs", "report")
"""In the order of the work; the number of each is its key."""


class NavBar(Static):
    """One line; a click or a number key goes to a screen."""

    def __init__(self, active: str) -> None:
        """Name the screen that is shown."""
        super().__init__(id="nav")
        self._active = active

    def on_mount(self) -> None:
        """Draw once: it never changes."""
        parts = []
        for number, name in enumerate(SCREEN_NAMES, start=1):
            title = f"{number} {name.capitalize()}"
            if name == self._active:
                parts.append(f"[$nav-active-text on $nav-active bold] {title} [/]")
            else:
                parts.append(f"[@click=app.go('{name}')] {title} [/]")
        self.update(Content.from_markup("".join(parts)))


class StatusLine(Static):
    """One line: the draft at the left, the job at work at the right, or the last sentence that was said."""

    def __init__(self) -> None:
        """Empty until a view is shown."""
        super().__init__(id="status", markup=False)

    def show(self, view: View) -> None:
        """Draw what there is to say; a problem comes first."""
        width = max(20, self.size.width or self.app.size.width - 2)  # of the whole screen before it is laid out
        if view.sentence:
            mark, style = ("! ", "$text-error bold") if view.is_problem else ("", "$text-success")
            self.tooltip = view.sentence
            self.update(Content.assemble((_cut(mark + view.sentence, 3 * width), style)))
            return
        right = _at_work(view)
        left = _cut(draft_sentence(view.draft), max(10, width - (len(right) + 2 if right else 0)))
        gap = " " * max(0, width - len(left) - len(right))
        self.tooltip = left
        self.update(Content.assemble((left, "$text-muted"), gap, (right, "bold")))


def _at_work(view: View) -> str:
    """The job that runs, with its stage; how many wait behind it."""
    if not view.has_listed:
        return "connecting to the daemon"
    running = [job for job in view.jobs if job.state in ("running", "cancelling")]
    queued = sum(job.state == "queued" for job in view.jobs)
    if not running:
        return f"{queued} queued" if queued else ""
    job = running[-1]
    stage = view.stage(job.stage or "") if job.id == view.followed else None
    parts = [kind_of(job.request), job.stage or ""]
    parts += [f"{job.done_fraction:.0%}"] if job.done_fraction is not None else []
    parts += [f"{format_seconds(stage.remaining_s)} left"] if stage is not None and stage.remaining_s else []
    parts += [f"+{queued} queued"] if queued else []
    return " ".join(part for part in parts if part)


def _cut(text: str, width: int) -> str:
    """Text of at most that many cells, its end replaced by dots."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: max(1, width - 3)]}..."
