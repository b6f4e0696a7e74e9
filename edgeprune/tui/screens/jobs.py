"""Jobs: everything that was handed in; follow, cancel, resume, and what a job wrote to stderr."""

import time
from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from edgeprune.jobs.protocol import JobsClient
from edgeprune.schema.jobs import Job, kind_of
from edgeprune.tui import messages as told
from edgeprune.tui.screens.base import EdgeScreen, panel
from edgeprune.tui.sourced import Source
from edgeprune.tui.view_state import View
from edgeprune.tui.widgets.figure_table import Column, FigureTable, LongTable, Row
from edgeprune.tui.widgets.stage_strip import StageStrip

__all__ = ["JobsScreen"]

_COLUMNS = (
    Column("", is_text=True, width=1),
    Column("job", is_text=True),
    Column("work", is_text=True),
    Column("state", is_text=True),
    Column("stage", is_text=True),
    Column("done"),
    Column("started", is_text=True),
    Column("run folder", is_text=True),
)
_MARKS = {"queued": "waiting", "running": "running", "cancelling": "running", "succeeded": "done", "failed": "failed",
          "cancelled": "skipped", "interrupted": "failed"}  # fmt: skip


class JobsScreen(EdgeScreen):
    """The list above, the chosen job below."""

    name_of_screen: ClassVar[str] = "jobs"
    title_text: ClassVar[str] = "Jobs"
    help_text: ClassVar[str] = (
        "Jobs run in the daemon, not in this app: closing it stops none. Enter follows the job under the cursor and "
        "shows its run folder on the other screens; c asks it to stop, r resumes one that was cancelled, interrupted "
        "or failed, where its last finished stage ended; o shows what its processes wrote to stderr."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "cancel", "Cancel"),
        Binding("r", "resume", "Resume"),
        Binding("o", "log", "Log"),
    ]

    def body(self) -> Iterable[Widget]:
        """Two panels."""
        table = LongTable(
            id="jobs",
            help_text="All jobs, the newest first. Enter follows one, c cancels, r resumes, o its log.",
            newest_first=True,
        )
        yield panel("Jobs", table, id="job-panel", classes="fill")
        strip = StageStrip(self.looks, id="stages")
        words = VerticalScroll(Static(id="words", markup=False), can_focus=True)
        yield panel("Followed job", strip, words, id="followed", classes="fill")

    def focus_main(self) -> None:
        """The table has the keys."""
        self.query_one("#jobs").focus()

    def draw(self, view: View) -> None:
        """The list, and the followed job."""
        rows = [_row(view, job, self.looks.marks[_MARKS[job.state]]) for job in reversed(view.jobs)]
        self.query_one("#jobs", FigureTable).show(_COLUMNS, rows)
        none = "Jobs: none yet; press 2 to choose a model, or p on 1 to profile this device"
        title = "Jobs" if rows else none if view.has_listed else "Jobs: being listed"
        self.query_one("#job-panel").border_title = title
        job = view.job(view.followed)
        self.query_one("#followed").border_title = "No job is followed" if job is None else f"Job {job.id}: {job.state}"
        self.query_one("#stages", StageStrip).show(view.stages, "Press enter on a job to follow it.")
        lines = [] if job is None or job.error is None else [job.error]
        lines += view.notes
        lines += ["", "stderr of its processes:", view.log] if view.log else []
        self.query_one("#words", Static).update("\n".join(lines))

    def on_data_table_row_selected(self) -> None:
        """Enter or a click on the row."""
        self.action_follow()

    def action_follow(self) -> None:
        """Show this job and its run folder."""
        if (job := self._job()) is not None:
            self.app_.tell(told.Followed(job.id, job.run_folder))
            self.app_.say(f"Following the {kind_of(job.request)} job {job.id}.")

    def action_cancel(self) -> None:
        """Ask the job to stop."""
        if (job := self._job()) is not None:
            self.app_.feed.ask(lambda client: client.cancel(job.id))

    def action_resume(self) -> None:
        """Go on where its last finished stage ended."""
        if (job := self._job()) is not None:
            app = self.app_

            def resume(client: JobsClient) -> None:
                client.resume(job.id)
                app.hear(told.Followed(job.id, job.run_folder))

            app.feed.ask(resume)

    def action_log(self) -> None:
        """What its processes wrote to stderr."""
        if (job := self._job()) is None:
            return
        self.action_follow()
        app = self.app_
        app.feed.ask(lambda client: app.hear(told.LogRead(client.log(job.id) or "nothing")))

    def _job(self) -> Job | None:
        job = self.app_.view.job(self.query_one("#jobs", FigureTable).key_at_cursor)
        if job is None:
            self.app_.say("There is no job yet; press 2 to choose a model and 3 to start a run.")
        return job


def _row(view: View, job: Job, mark: str) -> Row:
    at = Source(f"job {job.id}", job)
    started = "" if job.started_s is None else time.strftime("%m-%d %H:%M", time.localtime(job.started_s))
    folder = "" if job.run_folder is None else job.run_folder.rsplit("/", 1)[-1]
    done = at.take("done_fraction", "fraction") if job.done_fraction is not None else ""
    cells = (mark, job.id, kind_of(job.request), job.state, job.stage or "", done, started, folder)
    return Row(job.id, cells, is_strong=job.id == view.followed)
