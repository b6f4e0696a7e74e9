"""Validate: every limit against its measurement, how times were spread, predictions beside measurements, baselines."""

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget

from edgeprune.schema.jobs import ValidateJob
from edgeprune.schema.measurement import Check, ValidationReport
from edgeprune.schema.report import Quantity, RunReport
from edgeprune.tui.run_plots import latency_plot
from edgeprune.tui.screens.base import EdgeScreen, panel
from edgeprune.tui.sourced import Kind, Source
from edgeprune.tui.view_state import View, source
from edgeprune.tui.widgets.bars import Bar, Bars
from edgeprune.tui.widgets.figure_table import Column, FigureTable, Row
from edgeprune.tui.widgets.plot import Plot
from edgeprune.units import format_seconds

__all__ = ["ValidateScreen"]

_BUNDLES = (
    Column("", is_text=True, width=1),
    Column("bundle", is_text=True),
    Column("disk"),
    Column("peak memory"),
    Column("per token"),
    Column("first token"),
    Column("bits/byte"),
    Column("accuracy"),
)
_PREDICTIONS = (
    Column("of the recipe", is_text=True),
    Column("predicted"),
    Column("measured"),
    Column("off by"),
)
_WORDS = {"met": "met", "not_met": "not met", "unmeasured": "not measured"}
_STYLES = {"met": "$success", "not_met": "$error", "unmeasured": "$warning"}
_UNITS: dict[str, Kind] = {"bytes": "bytes", "s": "seconds", "fraction": "fraction", "bits": "bits", "count": "count"}


class ValidateScreen(EdgeScreen):
    """Gauges above, bundles in the middle, plot or predictions below."""

    name_of_screen: ClassVar[str] = "validate"
    title_text: ClassVar[str] = "Validate"
    help_text: ClassVar[str] = (
        "What was measured of the exported bundles on this device, each in processes of its own, against every limit. "
        "A limit without a measurement is never met. v measures again, which takes minutes and wants a quiet machine; "
        "p swaps the histogram of the bundle under the cursor with predictions beside measurements."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "validate", "Validate"),
        Binding("p", "swap", "Predictions"),
    ]

    def __init__(self) -> None:
        """The histogram first, where only one has room."""
        super().__init__()
        self._shows_predictions = False

    def body(self) -> Iterable[Widget]:
        """Four panels."""
        yield panel("Limits", Bars(self.looks, id="gauges"), id="limits")
        about = (
            "The exported bundles beside each other, as measured here. The histogram is of the one under the cursor."
        )
        yield panel("Bundles", FigureTable(id="bundles", help_text=about, can_choose=False), id="bundle-panel")
        with Horizontal(classes="row fill"):
            plot = Plot(self.looks, empty="No tokens were timed yet: press v to validate.", id="latency")
            yield panel("Time per token", plot, id="latency-panel", classes="fill")
            about = (
                "What was predicted before anything was built beside what was measured; off by: the prediction's error."
            )
            table = FigureTable(id="predictions", help_text=about, can_choose=False)
            yield panel("Predicted beside measured", table, id="prediction-panel", classes="fill right")

    def focus_main(self) -> None:
        """The table has the keys."""
        self.query_one("#bundles").focus()

    def draw(self, view: View) -> None:
        """Everything from validation.json and report.json."""
        at = source(view, "validation")
        report = at.content if isinstance(at.content, ValidationReport) else None
        box = self.query_one("#limits")
        if report is None:
            box.border_title = "Limits: not measured yet"
            self.query_one("#gauges", Bars).show([Bar(_next_step(view), None, ())])
        else:
            box.border_title = f"{_WORDS[report.verdict].capitalize()} on {report.device_name}"
            self.query_one("#gauges", Bars).show(_gauges(at, report, self.looks.marks))
        rows = [] if report is None else _bundle_rows(at, report, self.looks.marks)
        self.query_one("#bundles", FigureTable).show(_BUNDLES, rows)
        self.query_one("#bundle-panel").styles.height = max(3, len(rows) + 2)
        predicted = source(view, "report")
        self.query_one("#predictions", FigureTable).show(_PREDICTIONS, _prediction_rows(predicted))
        title = (
            "Predicted beside measured"
            if predicted.content is not None
            else "Predictions come with the report: press r on 8"
        )
        self.query_one("#prediction-panel").border_title = title
        is_narrow = self.has_class("-narrow")
        self.query_one("#latency-panel").display = not (is_narrow and self._shows_predictions)
        self.query_one("#prediction-panel").display = not is_narrow or self._shows_predictions
        self._draw_plot(view)

    def _draw_plot(self, view: View) -> None:
        place = max(0, self.query_one("#bundles", FigureTable).cursor_row)
        self.query_one("#latency", Plot).show(latency_plot(source(view, "validation"), place, format_seconds))

    def on_data_table_row_highlighted(self) -> None:
        """The histogram follows the cursor."""
        self._draw_plot(self.app_.view)

    def action_validate(self) -> None:
        """Measure the run's bundles."""
        folder = self.app_.view.run_folder
        if folder is None or self.app_.view.records.bundle is None:
            self.app_.say("There is no bundle to measure yet; press 4 and c there to export one.")
            return
        self.app_.submit(ValidateJob(path=folder))
        self.app_.say("The bundles are being measured; leave the machine alone meanwhile.")

    def action_swap(self) -> None:
        """The other one, where only one has room."""
        self._shows_predictions = not self._shows_predictions
        self.draw(self.app_.view)


def _next_step(view: View) -> str:
    """What there is to do or to wait for while nothing is measured."""
    stage = view.stage("validate")
    if stage is not None and stage.state == "running":
        return "The bundles are being measured."
    if view.records.bundle is not None:
        return "Nothing was validated: press v to measure the bundle."
    return "Nothing was validated: export a bundle first (screen 4)."


def _gauges(at: Source, report: ValidationReport, marks: dict[str, str]) -> list[Bar]:
    return [_gauge(at, index, check, marks) for index, check in enumerate(report.checks)]


def _gauge(at: Source, index: int, check: Check, marks: dict[str, str]) -> Bar:
    """Filled to the measurement's share of the limit; an accuracy is a least value, so the other way round."""
    kind = _UNITS.get(check.unit, "fraction")
    share = None
    if check.measured is not None and check.limit:
        share = (
            check.limit / check.measured
            if check.quantity == "accuracy" and check.measured
            else check.measured / check.limit
        )
    set_name = check.unit.rpartition(", ")[2] if ", " in check.unit else ""
    return Bar(
        label=f"{marks[check.verdict]} {check.quantity} {set_name}".rstrip(),
        share=0.0 if share is None else share,
        figures=(at.take(f"checks[{index}].measured", kind), at.take(f"checks[{index}].limit", kind)),
        remark=_WORDS[check.verdict],
        style=_STYLES[check.verdict],
    )


def _bundle_rows(at: Source, report: ValidationReport, marks: dict[str, str]) -> list[Row]:
    rows = []
    for index, entry in enumerate(report.measurements):
        base = f"measurements[{index}]"
        is_recipe = entry.label == "recipe"
        cells = (
            marks["chosen"] if is_recipe else marks["plain"],
            entry.label,
            at.take(f"{base}.disk_bytes", "bytes"),
            at.take(f"{base}.peak_rss_bytes", "bytes"),
            at.take(f"{base}.decode_s", "seconds"),
            at.take(f"{base}.time_to_first_token_s", "seconds"),
            at.take(f"{base}.texts[0].bits_per_byte", "bits"),
            at.take(f"{base}.accuracy[0].accuracy", "fraction"),
        )
        rows.append(Row(entry.label, cells, is_strong=is_recipe))
    return rows


def _prediction_rows(at: Source) -> list[Row]:
    report = at.content
    if not isinstance(report, RunReport):
        return []
    rows = []
    for place, row in enumerate(report.rows):
        if row.label != "recipe":
            continue
        for index, quantity in enumerate(row.quantities):
            if quantity.predicted is not None:
                rows.append(_prediction_row(at, f"rows[{place}].quantities[{index}]", quantity))
    return rows


def _prediction_row(at: Source, base: str, quantity: Quantity) -> Row:
    kind = _UNITS.get(quantity.unit, "bits")
    measured = at.take(f"{base}.value", kind) if quantity.basis == "measured" else ""
    cells = (
        quantity.name.removesuffix("_bytes").removesuffix("_s").replace("_", " "),
        at.take(f"{base}.predicted", kind),
        measured,
        at.take(f"{base}.relative_error", "change"),
    )
    return Row(quantity.name, cells)
