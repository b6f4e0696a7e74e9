"""Report: the run's report as Markdown, and where its HTML page is."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from edgeprune.schema.jobs import ReportJob
from edgeprune.tui.report_lines import report_lines
from edgeprune.tui.screens.base import EdgeScreen, panel
from edgeprune.tui.view_state import View

__all__ = ["ReportScreen"]

_EMPTY = (
    "There is no report yet. It is the last stage of a run: press 2 to choose a model, 3 to set a budget, and s there "
    "to start the run."
)


class ReportScreen(EdgeScreen):
    """One document that scrolls."""

    name_of_screen: ClassVar[str] = "report"
    title_text: ClassVar[str] = "Report"
    help_text: ClassVar[str] = (
        "report.md of the run folder. r renders it again from the run's records; h writes report.html, one file "
        "without scripts or network, and says where it is. Arrows, page up and page down scroll."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "render_again", "Render again"),
        Binding("h", "export_html", "Export HTML"),
    ]

    def __init__(self) -> None:
        """Nothing is shown yet."""
        super().__init__()
        self._shown: tuple[str, int] | None = None

    def body(self) -> Iterable[Widget]:
        """One panel."""
        scroll = VerticalScroll(Static(_EMPTY, id="report-text", markup=False), can_focus=True, id="report-scroll")
        yield panel("Report", scroll, id="report-panel", classes="fill")

    def focus_main(self) -> None:
        """The document has the keys."""
        self.query_one("#report-scroll").focus()

    def draw(self, view: View) -> None:
        """The document when it changed, and where it is."""
        folder = view.run_folder
        title = "Report" if folder is None or view.report_text is None else f"{Path(folder).name}/report.md"
        self.query_one("#report-panel").border_title = title
        width = max(20, self.size.width - 6)
        if view.report_text is not None and (view.report_text, width) != self._shown:
            self._shown = (view.report_text, width)
            lines = report_lines(view.report_text, width)
            parts = [part for text, style in lines for part in ((text, style) if style else text, "\n")]
            self.query_one("#report-text", Static).update(Content.assemble(*parts))

    def action_render_again(self) -> None:
        """Render from the records."""
        self._render_report("The report is being rendered again.")

    def action_export_html(self) -> None:
        """Write the HTML page; the report job writes it beside the Markdown."""
        self._render_report("The page is being written to {folder}/report.html.")

    def _render_report(self, sentence: str) -> None:
        folder = self.app_.view.run_folder
        if folder is None or self.app_.view.records.validation is None:
            self.app_.say("There is nothing to report yet; a report needs a validated bundle (v on screen 6).")
            return
        self.app_.submit(ReportJob(run=folder))
        self.app_.say(sentence.format(folder=folder))
