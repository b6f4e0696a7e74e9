"""Search: how far the run is, the front, what is removed from every block, the candidates, and why."""

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from edgeprune.schema.candidate import Candidate, SearchResult
from edgeprune.schema.jobs import CompressJob, ExplainJob, ExportJob, SearchJob
from edgeprune.tui import messages as told
from edgeprune.tui.draft import budget_request, context_of
from edgeprune.tui.explain_text import cell_text, overview_text
from edgeprune.tui.heat import heat_of, toggled
from edgeprune.tui.run_plots import FRONT_AXES, front_plot
from edgeprune.tui.screens.base import EdgeScreen, panel
from edgeprune.tui.sourced import Source
from edgeprune.tui.view_state import View, best_front
from edgeprune.tui.widgets.figure_table import Column, FigureTable, Row
from edgeprune.tui.widgets.heat_map import HeatMap
from edgeprune.tui.widgets.plot import Plot
from edgeprune.tui.widgets.stage_strip import StageStrip

__all__ = ["SearchScreen"]

_COLUMNS = (
    Column("", is_text=True, width=1),
    Column("candidate", is_text=True),
    Column("disk"),
    Column("peak memory"),
    Column("per token"),
    Column("loss"),
    Column("built"),
    Column("prompt", is_wide_only=True),
    Column("parameters", is_wide_only=True),
    Column("general", is_wide_only=True),
    Column("proved to", is_wide_only=True),
)


class SearchScreen(EdgeScreen):
    """Progress, plot and map, candidates, explanation."""

    name_of_screen: ClassVar[str] = "search"
    title_text: ClassVar[str] = "Search"
    help_text: ClassVar[str] = (
        "The front: recipes that no other one beats in size and loss; the choice is marked. The map shows what the "
        "recipe under the table's cursor leaves of every block. l locks the site under the map's cursor, b its block; "
        "the front is solved again at once, s writes that search into the run. w explains the choice. c builds the "
        "recipe and exports its bundle."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "search", "Search"),
        Binding("w", "explain", "Why"),
        Binding("l", "lock_site", "Lock site"),
        Binding("b", "lock_block", "Lock block"),
        Binding("c", "export", "Export"),
        Binding("x", "axis", "Axis", show=False),
    ]

    def __init__(self) -> None:
        """The front over bytes on disk first."""
        super().__init__()
        self._axis = 0
        self._shows_why = False

    def body(self) -> Iterable[Widget]:
        """Four panels."""
        yield panel("Progress", StageStrip(self.looks, id="stages"), id="progress")
        with Horizontal(classes="row fill", id="upper"):
            empty = "The front comes with the search. Press 3 to set a budget and s there to start."
            yield panel("Front", Plot(self.looks, empty=empty, id="front"), id="front-panel", classes="fill")
            scroll = VerticalScroll(Static(id="why-text", markup=False), can_focus=True, id="why-scroll")
            yield panel("Why", scroll, id="why", classes="fill right")
            yield panel("What stays", HeatMap(self.looks, id="heat"), id="heat-panel", classes="fill right")
        with Horizontal(classes="row", id="lower"):
            about = (
                "Candidates, smallest first; all predicted but the column `built`, which was measured on selection "
                "text. The map shows the one under the cursor."
            )
            table = FigureTable(id="candidates", help_text=about, can_choose=False)
            yield panel("Candidates", table, id="candidate-panel", classes="fill")

    def focus_main(self) -> None:
        """The table has the keys."""
        self.query_one("#candidates").focus()

    def draw(self, view: View) -> None:
        """Everything from the view."""
        at = best_front(view)
        result = at.content if isinstance(at.content, SearchResult) else None
        empty = "No job is followed. Press 2 to choose a model, 3 to set a budget, s there to start the run."
        empty = empty if view.has_listed else "Jobs are being listed."
        self.query_one("#stages", StageStrip).show(view.stages, empty)
        rows = [] if result is None else _rows(at, result, self.looks.marks)
        is_narrow = self.has_class("-narrow")
        self.query_one("#candidates", FigureTable).show(_COLUMNS, rows, is_narrow=is_narrow)
        kept = "" if view.solved is None else ", solved again: s keeps it"
        self.query_one("#front-panel").border_title = "Front, solving" if view.is_solving else f"Front{kept}"
        self.query_one("#candidate-panel").border_title = "Candidates" if rows else "Candidates: none yet"
        is_past = view.solved is not None and view.explanation is not None
        self.query_one("#why").border_title = "Why the run's recipe: s renews it" if is_past else "Why"
        self.query_one("#why").display = not is_narrow or self._shows_why
        self.query_one("#front-panel").display = not (is_narrow and self._shows_why)
        self._draw_cursor(view)

    def _draw_cursor(self, view: View) -> None:
        """What depends on the cursors alone."""
        at = best_front(view)
        place, candidate = self._pointed(at)
        cursor = place if candidate is not None else None
        self.query_one("#front", Plot).show(front_plot(at, FRONT_AXES[self._axis], self.looks, cursor=cursor))
        heat = heat_of(view.records.model, None if candidate is None else candidate.recipe)
        self.query_one("#heat", HeatMap).show(heat, view.draft.locks, at.record)
        room = 38 if self.has_class("-narrow") else 78
        self.query_one("#heat-panel").styles.width = min(
            room, 38 if heat is None else max(38, 3 * len(heat.blocks) + 8)
        )
        name = "" if candidate is None else f" of {_name(candidate, at.content)}"
        self.query_one("#heat-panel").border_title = f"What stays{name}"
        self._draw_why(view)

    def _draw_why(self, view: View) -> None:
        heat = self.query_one("#heat", HeatMap)
        is_asked = any(isinstance(job.request, ExplainJob) and not job.is_over for job in view.jobs)
        text = overview_text(view.explanation, view.draft.locks, is_asked=is_asked)
        if view.explanation is not None and heat.cell is not None and heat.block is not None:
            text = f"{cell_text(view.explanation, heat.cell.site, heat.block)}\n\n{text}"
        self.query_one("#why-text", Static).update(text)

    def on_data_table_row_highlighted(self) -> None:
        """Map and plot follow the table's cursor."""
        self._draw_cursor(self.app_.view)

    def on_heat_map_pointed(self) -> None:
        """The explanation follows the map's cursor."""
        self._draw_why(self.app_.view)

    def action_search(self) -> None:
        """Write the search for these limits and locks into the run."""
        self.app_.attempt(self._search)

    def action_export(self) -> None:
        """Build the chosen recipe and export it; validating is another screen's."""
        folder = self.app_.view.run_folder
        if folder is None or self.app_.view.records.front is None:
            self.app_.say("There is no recipe to export yet; press 3 to set a budget and s there to start the run.")
            return
        self.app_.submit(CompressJob(run=folder))
        self.app_.submit(ExportJob(run=folder))
        self.app_.say("The recipe is being built and exported; screen 5 shows the bundle, v on screen 6 measures it.")

    def action_explain(self) -> None:
        """Show why, and ask for it when it is not known."""
        self._shows_why = not self._shows_why if self.app_.view.explanation is not None else True
        if self.app_.view.explanation is None:
            self.app_.explain_run()
        self.draw(self.app_.view)
        heat = self.query_one("#heat", HeatMap)
        if heat.heat is not None and (self._shows_why or not self.has_class("-narrow")):
            heat.focus()  # the arrows choose which block and site is explained

    def action_lock_site(self) -> None:
        """Hold the site under the map's cursor to what it is."""
        cell = self.query_one("#heat", HeatMap).cell
        if cell is not None:
            self._toggle(cell.site)

    def action_lock_block(self) -> None:
        """Hold the block under the map's cursor to being kept or dropped."""
        block = self.query_one("#heat", HeatMap).block
        if block is not None:
            self._toggle(f"block.{block}")

    def action_axis(self) -> None:
        """The front over disk, memory or time."""
        self._axis = (self._axis + 1) % len(FRONT_AXES)
        self._draw_cursor(self.app_.view)

    def _toggle(self, name: str) -> None:
        _, candidate = self._pointed(best_front(self.app_.view))
        if candidate is None:
            return
        locks = toggled(self.app_.view.draft.locks, name, candidate.recipe)
        self.app_.tell(told.LocksChanged(locks))
        held = [str(lock) for lock in locks if lock.pattern == name]
        self.app_.say(f"Locked {', '.join(held)}; l or b again unlocks it." if held else f"{name} is free again.")

    def _search(self) -> None:
        folder, draft = self.app_.view.run_folder, self.app_.view.draft
        if folder is None or self.app_.view.records.front is None:
            self.app_.say("There is no run to search in yet; press 3 to set a budget and s there to start one.")
            return
        self.app_.submit(
            SearchJob(run=folder, budget=budget_request(draft), context_tokens=context_of(draft), locks=draft.locks)
        )

    def _pointed(self, at: Source) -> tuple[int, Candidate | None]:
        """Place on the front (-1 for others) and candidate under the table's cursor; the choice without one."""
        result = at.content
        if not isinstance(result, SearchResult):
            return -1, None
        key = self.query_one("#candidates", FigureTable).key_at_cursor or "chosen"
        kind, _, number = key.partition(" ")
        if kind == "front" and int(number) < len(result.front):
            return int(number), result.front[int(number)]
        if kind == "baseline" and int(number) < len(result.baselines):
            return -1, result.baselines[int(number)]
        return -1, result.dense if kind == "dense" else result.chosen


def _name(candidate: Candidate, result: object) -> str:
    is_chosen = (
        isinstance(result, SearchResult) and result.chosen is not None and candidate.recipe == result.chosen.recipe
    )
    return "the choice" if is_chosen else candidate.label


def _rows(at: Source, result: SearchResult, marks: dict[str, str]) -> list[Row]:
    """The choice first, then the front, dense and baselines last."""
    rows = []
    if result.chosen is not None:
        rows.append(_row(at, "chosen", "chosen", "chosen", marks["chosen"], is_strong=True))
    chosen = None if result.chosen is None else result.chosen.recipe
    plain = [entry.recipe for entry in (result.dense, *result.baselines)]
    for index, entry in enumerate(result.front):
        if entry.recipe != chosen and entry.recipe not in plain:
            rows.append(_row(at, f"front {index}", f"front[{index}]", f"{entry.label} {index + 1}", marks["front"]))
    for index, entry in enumerate(result.baselines):
        rows.append(_row(at, f"baseline {index}", f"baselines[{index}]", entry.label, marks["plain"]))
    rows.append(_row(at, "dense", "dense", "dense", marks["plain"]))
    return rows


def _row(at: Source, key: str, path: str, label: str, mark: str, *, is_strong: bool = False) -> Row:
    built = at.take(f"{path}.measured_relative_loss", "change")
    cells = (
        mark,
        label,
        at.take(f"{path}.cost.disk_bytes", "bytes"),
        at.take(f"{path}.cost.peak_rss_bytes.value", "bytes"),
        at.take(f"{path}.cost.decode_s.value", "seconds"),
        at.take(f"{path}.relative_loss", "change"),
        built if built.value is not None else "",
        at.take(f"{path}.cost.prefill_s.value", "seconds"),
        at.take(f"{path}.cost.parameter_count", "parameters"),
        at.take(f"{path}.general_relative_loss", "change"),
        at.take(f"{path}.optimality_gap", "fraction"),
    )
    return Row(key, cells, is_strong=is_strong)
