"""Budget: the limits, what the front looks like within them, and what to give up when nothing fits."""

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Static

from edgeprune.errors import UsageError
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.demo import DemoReport
from edgeprune.schema.jobs import DemoJob
from edgeprune.tui import messages as told
from edgeprune.tui.draft import QUANTITIES, budget_request, context_of, limit_texts, run_job
from edgeprune.tui.run_plots import FRONT_AXES, front_plot
from edgeprune.tui.screens.base import EdgeScreen, panel
from edgeprune.tui.sourced import Kind, Source, Sourced
from edgeprune.tui.view_state import View, best_front
from edgeprune.tui.widgets.figure import FigureLine, FigureList
from edgeprune.tui.widgets.figure_table import Column, FigureTable, Row
from edgeprune.tui.widgets.limit_row import LimitRow
from edgeprune.tui.widgets.plot import Plot

__all__ = ["BudgetScreen"]

_KINDS: dict[str, Kind] = {"bytes": "bytes", "seconds": "seconds", "fraction": "change"}
_USED_AS = {"max_loss": "loss"}
"""Quantity of the draft -> as `LimitUse.quantity` names it, where they differ."""
_PREDICTED: dict[str, str] = {
    "memory": "chosen.cost.peak_rss_bytes.value",
    "latency": "chosen.cost.decode_s.value",
    "disk": "chosen.cost.disk_bytes",
    "max_loss": "chosen.relative_loss",
}
"""Where a quantity is not limited: what the choice is predicted to take."""
_CONTEXTS = ("", "64", "128", "256", "512", "1024", "2048", "4096", "8192")
_BUILDS = ("0", "2", "4", "8", "12", "16", "24", "32")


class BudgetScreen(EdgeScreen):
    """Limits above, plot and choice below."""

    name_of_screen: ClassVar[str] = "budget"
    title_text: ClassVar[str] = "Budget"
    help_text: ClassVar[str] = (
        "What the model may take on the device. Write a limit or move its slider; once a run has been scored, the "
        "front is solved again at each change and nothing is built for it. s starts the whole run (profile, calibrate, "
        "search, compress, export, validate, report), or goes on with what is finished of it; t solves the demo model "
        "for these limits in seconds. Where nothing fits, the list says what to give up; enter takes that."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start", "Start"),
        Binding("t", "try_demo", "Try"),
        Binding("l", "edit", "Edit"),
        Binding("x", "axis", "Axis"),
        Binding("z", "clear", "Clear"),
    ]

    def __init__(self) -> None:
        """The front over bytes on disk first."""
        super().__init__()
        self._axis = 0

    def body(self) -> Iterable[Widget]:
        """Rows, then plot and advice."""
        rows: list[Widget] = [
            LimitRow(self.looks, quantity.name, quantity.title, quantity.example, quantity.stops)
            for quantity in QUANTITIES
        ]
        rows.append(LimitRow(self.looks, "context", "context tokens", "512", _CONTEXTS))
        rows.append(LimitRow(self.looks, "evaluations", "recipes to build", "12", _BUILDS))
        yield panel("Limits", *rows, id="limits")
        with Horizontal(classes="row fill"):
            empty = "The front comes with the first run: press s to start it. The demo model has one already: press t."
            yield panel("Front", Plot(self.looks, empty=empty, id="front"), id="front-panel", classes="fill")
            advice = FigureTable(
                id="advice", help_text="What makes the budget feasible, each alone, really solved for. Enter takes one."
            )
            choice = FigureList(id="choice")
            reason = Static(id="reason", markup=False)
            yield panel("Choice", choice, reason, advice, id="choice-panel", classes="fill right")

    def focus_main(self) -> None:
        """Keys first: s starts, l edits."""
        self.set_focus(None)

    def draw(self, view: View) -> None:
        """Rows, plot, choice and advice."""
        at = best_front(view)
        result = at.content if isinstance(at.content, SearchResult) else None
        for quantity in QUANTITIES:
            used, limit, mark = _use(at, result, quantity.name, _KINDS[quantity.kind], self.looks.marks)
            mark = " " if mark and view.is_solving else mark  # what stands there answered an earlier limit
            share = _share(at, quantity.name, limit)
            self._row(quantity.name).put(view.draft.limit(quantity.name), used, limit, mark, share)
        context = None if result is None else at.take("context_tokens", "count")
        self._row("context").put(view.draft.context, context, None, " ")
        self._row("evaluations").put(view.draft.evaluations, None, None, "")
        axis = FRONT_AXES[self._axis]
        self.query_one("#front", Plot).show(front_plot(at, axis, self.looks))
        words = (
            "solving"
            if view.is_solving
            else "solved again for these limits"
            if view.solved is not None
            else "of the run"
        )
        self.query_one("#front-panel").border_title = "Front" if result is None else f"Front, {words}"
        self._draw_choice(at, result)

    def _draw_choice(self, at: Source, result: SearchResult | None) -> None:
        box, advice = self.query_one("#choice-panel"), self.query_one("#advice", FigureTable)
        rows = [] if result is None else _advice(at, result)
        advice.display = bool(rows)
        columns = (Column("enter takes", is_text=True), Column("loss"))
        reason = self.query_one("#reason", Static)
        reason.display = bool(rows)
        reason.update("" if result is None or result.infeasible is None else result.infeasible.message)
        advice.show(columns, rows)
        if result is None:
            box.border_title = "Choice: none yet"
        elif result.chosen is None:
            box.border_title = "Nothing fits: enter takes a way out"
        else:
            box.border_title = f"Choice on {result.device_name}"
        lines = _choice(at, result)
        self.query_one("#choice", FigureList).display = bool(lines)
        self.query_one("#choice", FigureList).show(lines)

    def on_limit_row_changed(self, event: LimitRow.Changed) -> None:
        """The user wrote a limit."""
        if event.quantity == "context":
            self.app_.tell(told.ContextChanged(event.text))
        elif event.quantity == "evaluations":
            self.app_.tell(told.EvaluationsChanged(event.text))
        else:
            self.app_.tell(told.LimitChanged(event.quantity, event.text))

    def on_data_table_row_selected(self) -> None:
        """Take a way out of an infeasible budget."""
        result = best_front(self.app_.view).content
        key = self.query_one("#advice", FigureTable).key_at_cursor
        if not isinstance(result, SearchResult) or result.infeasible is None or key is None:
            return
        if key.startswith("nearest") and result.infeasible.nearest is not None:
            self._take(result.infeasible.nearest)
        elif key.isdigit():
            concession = result.infeasible.concessions[int(key)]
            self._take(concession.budget)
            self.app_.tell(told.LocksChanged(concession.locks))
            self.app_.tell(told.ContextChanged(str(concession.context_tokens)))

    def action_start(self) -> None:
        """Submit the whole run and go where it can be watched."""
        self.app_.attempt(self._start)

    def action_try_demo(self) -> None:
        """Solve the demo for these limits from its shipped scores: an answer in seconds, before any run."""
        self.app_.attempt(self._try_demo)

    def action_edit(self) -> None:
        """Into the first field."""
        self._row(QUANTITIES[0].name).query("Input").first().focus()

    def action_axis(self) -> None:
        """The front over disk, memory or time."""
        self._axis = (self._axis + 1) % len(FRONT_AXES)
        self.draw(self.app_.view)

    def action_clear(self) -> None:
        """Lift all limits."""
        for quantity in QUANTITIES:
            self.app_.tell(told.LimitChanged(quantity.name, ""))

    def _start(self) -> None:
        if not self.app_.view.draft.is_model_chosen:
            raise UsageError("No model is chosen; press 2 and take one with enter.")
        self.app_.submit(run_job(self.app_.view.draft), shows="search")

    def _try_demo(self) -> None:
        view, app = self.app_.view, self.app_
        if view.records.front is not None:
            raise UsageError("The run's own front is solved again at every change; there is nothing to try.")
        if not view.draft.is_model_chosen or view.draft.model is not None:
            raise UsageError("Only the demo model ships with its scores; start the run with s to score this one.")
        request = DemoJob(
            device=view.draft.device,
            budget=budget_request(view.draft),
            context_tokens=context_of(view.draft),
            validates=False,
        )
        app.tell(told.SolvingStarted())
        app.feed.fetch(request, DemoReport, lambda found: app.hear(told.Solved(found.asked or found.default)))

    def _take(self, budget: Budget) -> None:
        for name, text in limit_texts(budget).items():
            self.app_.tell(told.LimitChanged(name, text))

    def _row(self, name: str) -> LimitRow:
        return self.query_one(f"#limit-{name}", LimitRow)


def _use(
    at: Source, result: SearchResult | None, quantity: str, kind: Kind, marks: dict[str, str]
) -> tuple[Sourced | None, Sourced | None, str]:
    """What the choice uses, the limit, and the mark of whether it is kept as predicted."""
    if result is None or result.chosen is None:
        return None, None, ""
    for index, use in enumerate(result.uses):
        if use.quantity == _USED_AS.get(quantity, quantity):
            used = at.take(f"uses[{index}].predicted", kind)
            is_kept = use.predicted is not None and use.predicted <= use.limit
            mark = marks["unmeasured"] if use.predicted is None else marks["met" if is_kept else "not_met"]
            return used, at.take(f"uses[{index}].limit", kind), mark
    return at.take(_PREDICTED[quantity], kind), None, " "


def _share(at: Source, quantity: str, limit: Sourced | None) -> float | None:
    """How much of the dense model's value a limit is, for the slider's place; a loss is a share already."""
    if limit is None or not isinstance(limit.value, (int, float)):
        return None
    if quantity == "max_loss":
        return float(limit.value)
    dense = at.take(_PREDICTED[quantity].replace("chosen", "dense", 1)).value
    return float(limit.value) / float(dense) if isinstance(dense, (int, float)) and dense else None


def _choice(at: Source, result: SearchResult | None) -> list[FigureLine]:
    """The choice beside the dense model; nothing where nothing fits."""
    if result is None:
        return []
    if result.chosen is None:
        return []
    lines: list[FigureLine] = []
    names: tuple[tuple[str, str, Kind], ...] = (
        ("disk", "cost.disk_bytes", "bytes"),
        ("peak memory", "cost.peak_rss_bytes.value", "bytes"),
        ("per token", "cost.decode_s.value", "seconds"),
        ("prompt", "cost.prefill_s.value", "seconds"),
        ("parameters", "cost.parameter_count", "parameters"),
    )
    for label, path, kind in names:
        lines.append((label, at.take(f"chosen.{path}", kind), f"dense {at.take(f'dense.{path}', kind).text}"))
    built = at.take("chosen.measured_relative_loss", "change")
    lines.append(("loss, predicted", at.take("chosen.relative_loss", "change"), ""))
    if built.value is not None:
        lines.append(("loss, measured", built, "on selection text"))
    return lines


def _advice(at: Source, result: SearchResult) -> list[Row]:
    infeasible = result.infeasible
    if infeasible is None:
        return []
    rows = []
    if infeasible.nearest is not None:
        for index, (name, text) in enumerate(limit_texts(infeasible.nearest).items()):
            words = f"{'these limits:' if index == 0 else '             '} {name.removeprefix('max_')} {text}"
            rows.append(Row(f"nearest {name}", (Sourced(at.record, "infeasible.nearest", words), "")))
    for index in range(len(infeasible.concessions)):
        message = at.take(f"infeasible.concessions[{index}].message")
        rows.append(Row(str(index), (message, at.take(f"infeasible.concessions[{index}].relative_loss", "change"))))
    return rows
