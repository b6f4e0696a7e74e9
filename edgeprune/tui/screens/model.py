"""Model: the demo that ships, cached hub models or a folder, and what of them would fit before anything is loaded."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Input, Label

from edgeprune.demo.paths import demo_model_path
from edgeprune.errors import UsageError
from edgeprune.schema.budget import Budget
from edgeprune.schema.fit import FitModel, FitReport, FitRow
from edgeprune.schema.jobs import FitJob, PlanJob
from edgeprune.schema.plan import PlanReport
from edgeprune.tui import messages as told
from edgeprune.tui.draft import budget_request, context_of
from edgeprune.tui.screens.base import EdgeScreen, panel
from edgeprune.tui.sourced import Kind, Source
from edgeprune.tui.view_state import ModelOption, View, source
from edgeprune.tui.widgets.field import Field
from edgeprune.tui.widgets.figure_table import Column, FigureTable, LongTable, Row

__all__ = ["ModelScreen"]

_MODEL_COLUMNS = (
    Column("", is_text=True, width=1),
    Column("model", is_text=True),
    Column("from", is_text=True),
    Column("weights"),
)
_FIT_COLUMNS = (
    Column("", is_text=True, width=1),
    Column("model", is_text=True),
    Column("as", is_text=True),
    Column("weights", is_wide_only=True),
    Column("memory"),
    Column("speed"),
    Column("prompt", is_wide_only=True),
    Column("fits", is_text=True),
)
_FITS = {"met": "yes", "not_met": "no", "unmeasured": "unknown"}


class ModelScreen(EdgeScreen):
    """Models at hand, two fields, and the answer of a fit or plan job."""

    name_of_screen: ClassVar[str] = "model"
    title_text: ClassVar[str] = "Model"
    help_text: ClassVar[str] = (
        "The model to compress, and the field it is to stay good at. Enter takes the model under the cursor; a folder "
        "or hub id goes into the field, and the folder of an earlier run opens that run. f asks which small open "
        "models fit the device, t what the chosen model would need, both from headers alone: nothing is loaded or "
        "downloaded for it. Limits of screen 3 count."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "fit", "What fits"),
        Binding("t", "plan", "This one"),
        Binding("m", "field", "Other"),
    ]

    def body(self) -> Iterable[Widget]:
        """Three panels."""
        table = FigureTable(
            id="models", help_text="Models at hand. Enter takes one; m types a folder or hub id instead."
        )
        yield panel("At hand", table, id="at-hand")
        with Horizontal(classes="row", id="fields"):
            yield Label("folder or hub id", classes="label")
            yield Field(placeholder="path, or org/name", id="path", select_on_focus=False)
            yield Label("field", classes="label gap-left")
            yield Field(placeholder="medicine, law, finance or a path", id="domain")
        yield panel(
            "What fits", LongTable(id="fit", help_text=_FIT_HELP, can_choose=False), id="fit-panel", classes="fill"
        )

    def focus_main(self) -> None:
        """The table has the keys."""
        self.query_one("#models").focus()

    def draw(self, view: View) -> None:
        """Models, fields and the last answer."""
        rows = [_model_row(view, entry) for entry in view.models]
        self.query_one("#models", FigureTable).show(_MODEL_COLUMNS, rows)
        self.query_one("#at-hand").styles.height = max(4, min(len(rows) + 2, 7 if self.has_class("-narrow") else 14))
        domain = self.query_one("#domain", Input)
        if not domain.has_focus and domain.value != view.draft.domain:
            domain.value = view.draft.domain
        is_narrow = self.has_class("-narrow")
        table, box = self.query_one("#fit", FigureTable), self.query_one("#fit-panel")
        if view.plan is not None:
            table.show(_FIT_COLUMNS, _plan_rows(source(view, "plan"), view.plan, self.looks.marks), is_narrow=is_narrow)
            box.border_title = f"What it would need on {view.plan.device_name}, context {view.plan.context_tokens}"
        elif view.fit is not None:
            table.show(_FIT_COLUMNS, _fit_rows(source(view, "fit"), view.fit, self.looks.marks), is_narrow=is_narrow)
            within = _within(source(view, "fit"))
            box.border_title = f"What fits {view.fit.device_name} {within}, context {view.fit.context_tokens}"
        else:
            table.show(_FIT_COLUMNS, [], is_narrow=is_narrow)
            box.border_title = "What fits: press f for the catalogue, t for the chosen model"

    @on(FigureTable.RowSelected, "#models")
    def _row_chosen(self) -> None:
        self.action_choose()

    @on(Input.Submitted, "#path")
    def _path_given(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        folder = Path(text).expanduser().absolute()
        if text and (folder / "manifest.json").is_file():
            self.app_.tell(told.Followed(None, str(folder)))
            self.app_.say(f"Showing the run {folder.name}; screens 3 to 8 are about it now.")
            self.focus_main()
        elif text:
            self._take(text)
            self.focus_main()

    @on(Input.Changed, "#domain")
    def _domain_given(self, event: Input.Changed) -> None:
        if event.value != self.app_.view.draft.domain:
            self.app_.tell(told.DomainChanged(event.value))

    @on(Input.Submitted, "#domain")
    def _domain_done(self) -> None:
        self.app_.action_leave()
        self.focus_main()

    def action_choose(self) -> None:
        """Take the model under the cursor."""
        key = self.query_one("#models", FigureTable).key_at_cursor
        if key is None:
            self.app_.say("The models at hand are still being listed.")
            return
        self._take(key or None)

    def action_field(self) -> None:
        """Type a folder or hub id."""
        self.query_one("#path").focus()

    def action_fit(self) -> None:
        """Ask which models of the catalogue fit."""
        self.app_.attempt(self._fit)

    def action_plan(self) -> None:
        """Ask what the chosen model would need."""
        self.app_.attempt(self._plan)

    def _take(self, model: str | None) -> None:
        self.app_.tell(told.ModelChosen(model))
        name = "the demo model" if model is None else model
        self.app_.say(f"The next run compresses {name}. Press 3 to set the budget.")

    def _fit(self) -> None:
        draft, app = self.app_.view.draft, self.app_
        asked = budget_request(draft)
        for limit in (asked.memory, asked.latency, asked.disk):
            if limit is not None and limit.percent_of_dense is not None:
                raise UsageError(
                    f"{limit.percent_of_dense:.0%} is a share of one model, and this compares many; give an amount "
                    "such as 1GB on screen 3."
                )
        memory, latency, disk = (
            None if limit is None else limit.absolute for limit in (asked.memory, asked.latency, asked.disk)
        )
        budget = Budget(
            memory_bytes=None if memory is None else int(memory),
            latency_s=latency,
            disk_bytes=None if disk is None else int(disk),
        )
        app.say("Asking which models fit; the catalogue is read from headers alone.")
        self.query_one("#fit").focus()  # the answer is what is looked at next
        app.feed.fetch(
            FitJob(device=draft.device, budget=budget, context_tokens=context_of(draft)),
            FitReport,
            lambda found: app.hear(told.Fitted(found)),
        )

    def _plan(self) -> None:
        draft, app = self.app_.view.draft, self.app_
        if not draft.is_model_chosen:
            raise UsageError("No model is chosen; press enter on one of the list first.")
        model = str(demo_model_path()) if draft.model is None else draft.model
        app.say("Asking what the model would need; only its headers are read.")
        app.feed.fetch(
            PlanJob(
                models=(model,), device=draft.device, budget=budget_request(draft), context_tokens=context_of(draft)
            ),
            PlanReport,
            lambda found: app.hear(told.Planned(found)),
        )


_FIT_HELP = "Predicted from shapes and the device's profile. A range that reaches over a limit is called close."


_LIMITS: tuple[tuple[str, Kind, str], ...] = (
    ("memory_bytes", "bytes", "memory"),
    ("latency_s", "seconds", "a token"),
    ("disk_bytes", "bytes", "disk"),
)


def _within(at: Source) -> str:
    """The limits that the answer is for: one left over from another day is seen."""
    taken = [(at.take(f"budget.{field}", kind), name) for field, kind, name in _LIMITS]
    set_ones = [f"{figure.text} {name}" for figure, name in taken if figure.value is not None]
    return f"within {', '.join(set_ones)}" if set_ones else "in all its memory (3 sets limits)"


def _model_row(view: View, entry: ModelOption) -> Row:
    is_chosen = view.draft.is_model_chosen and (view.draft.model or "") == entry.name
    size = Source(f"weight files of {entry.name or 'the demo'}", entry).take("size_bytes", "bytes")
    name = entry.name or "demo model (embedded default)"
    return Row(entry.name, ("*" if is_chosen else "", name, entry.where, size), is_strong=is_chosen)


def _plan_rows(at: Source, report: PlanReport, marks: dict[str, str]) -> list[Row]:
    rows = []
    for index, row in enumerate(report.rows):
        base = f"rows[{index}].cost"
        name = "demo model" if row.model == str(demo_model_path()) else row.model.rstrip("/").rsplit("/", 1)[-1]
        cells = (
            marks[row.fits],
            name,
            row.precision,
            at.take(f"{base}.weights_bytes", "bytes"),
            at.take(f"{base}.peak_rss_bytes.value", "bytes"),
            at.take(f"{base}.decode_s.value", "seconds"),
            at.take(f"{base}.prefill_s.value", "seconds"),
            _fits(_FITS[row.fits], row.binding),
        )
        rows.append(Row(f"{row.model} {row.precision}", cells, is_weak=row.fits == "not_met"))
    return rows


def _fit_rows(at: Source, report: FitReport, marks: dict[str, str]) -> list[Row]:
    return [
        _fit_row(at, f"models[{place}].rows[{index}]", model, row, marks)
        for place, model in enumerate(report.models)
        if model.can_compress
        for index, row in enumerate(model.rows)
    ]


def _fit_row(at: Source, base: str, model: FitModel, row: FitRow, marks: dict[str, str]) -> Row:
    cells = (
        marks[row.fits],
        model.name,
        row.precision,
        at.take(f"{base}.weights_bytes", "bytes"),
        at.take(f"{base}.peak_rss_bytes.value", "bytes"),
        at.take(f"{base}.tokens_per_s.value", "tokens_per_s"),
        at.take(f"{base}.prefill_s.value", "seconds"),
        f"{_FITS[row.fits]}, close" if row.is_close else _fits(_FITS[row.fits], row.binding),
    )
    return Row(f"{model.name} {row.precision}", cells, is_weak=row.fits == "not_met")


def _fits(word: str, binding: tuple[str, ...]) -> str:
    return f"{word}: {', '.join(binding)}" if binding else word
