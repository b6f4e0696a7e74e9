"""Device: what this machine does now, what was measured of it, and every profile beside it."""

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget

from edgeprune.schema.jobs import ProfileJob
from edgeprune.schema.meters import Meters
from edgeprune.tui import messages as told
from edgeprune.tui.device_plots import bandwidth_plot, peak_bandwidth, roofline_plot
from edgeprune.tui.screens.base import EdgeScreen, panel
from edgeprune.tui.sourced import Source, Sourced
from edgeprune.tui.view_state import NamedProfile, View, source
from edgeprune.tui.widgets.bars import Bar, Bars
from edgeprune.tui.widgets.figure_table import Column, FigureTable, Row
from edgeprune.tui.widgets.plot import Plot

__all__ = ["DeviceScreen"]

SAVED_NAME = "here"
"""Name under which this device is kept."""

_HIGH, _FULL = 0.75, 0.92
_COLUMNS = (
    Column("", is_text=True, width=1),
    Column("profile", is_text=True),
    Column("from", is_text=True),
    Column("cores"),
    Column("memory"),
    Column("bandwidth"),
    Column("floor"),
    Column("processor", is_text=True, is_wide_only=True),
    Column("kernels timed", is_wide_only=True),
    Column("onnxruntime", is_text=True, is_wide_only=True),
)


class DeviceScreen(EdgeScreen):
    """Meters above, plots in the middle, profiles below."""

    name_of_screen: ClassVar[str] = "device"
    title_text: ClassVar[str] = "Device"
    help_text: ClassVar[str] = (
        "The device that the model is to run on. Without a choice, a run measures this one first. Press p to measure "
        "this device now and keep the profile, or choose another one of the list with enter. The plots are of the "
        "profile under the cursor."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "profile(False)", "Profile"),
        Binding("u", "profile(True)", "Quickly"),
        Binding("b", "swap", "Other plot"),
    ]

    def __init__(self) -> None:
        """Bandwidth first where only one plot has room."""
        super().__init__()
        self._shows_roofline = False

    def body(self) -> Iterable[Widget]:
        """Three panels."""
        yield panel("This machine now", Bars(self.looks, id="meters"), id="now")
        with Horizontal(classes="row fill"):
            empty = "No bandwidth was measured: press p to profile this device."
            yield panel("Bandwidth", Plot(self.looks, empty=empty, id="bandwidth"), id="left-plot", classes="fill")
            empty = "No roofline without a measured or published bandwidth."
            yield panel("Roofline", Plot(self.looks, empty=empty, id="roofline"), id="right-plot", classes="fill right")
        table = FigureTable(
            id="profiles",
            help_text="Device profiles: saved ones of yours first, then those that ship. Enter uses one for the next "
            "run; the first row measures this device as part of the run.",
        )
        yield panel("Profiles", table, id="profile-panel")

    def focus_main(self) -> None:
        """The table has the keys."""
        self.query_one("#profiles").focus()

    def draw(self, view: View) -> None:
        """Meters, table, and the plots of the profile under the cursor."""
        is_narrow = self.has_class("-narrow")
        self.query_one("#left-plot").display = not (is_narrow and self._shows_roofline)
        self.query_one("#right-plot").display = not is_narrow or self._shows_roofline
        self.query_one("#meters", Bars).show(_bars(view))
        rows = [_here(view), *(_row(view, entry) for entry in view.profiles)]
        self.query_one("#profiles", FigureTable).show(_COLUMNS, rows, is_narrow=is_narrow)
        self.query_one("#profile-panel").styles.height = min(len(rows) + 2, 7 if is_narrow else 14)
        self._draw_plots(view)

    def _draw_plots(self, view: View) -> None:
        key = self.query_one("#profiles", FigureTable).key_at_cursor
        found = next((entry for entry in view.profiles if entry.name == key), None)
        shown = found if found is not None else next((entry for entry in view.profiles if entry.is_saved), None)
        at = source(view, "device") if shown is None else _source(shown)
        name = "" if at.content is None else f": {shown.name if shown is not None else 'of this run'}"
        self.query_one("#left-plot").border_title = f"Bandwidth{name}"
        self.query_one("#right-plot").border_title = f"Roofline{name}"
        self.query_one("#bandwidth", Plot).show(bandwidth_plot(at))
        self.query_one("#roofline", Plot).show(roofline_plot(at))

    def on_data_table_row_highlighted(self) -> None:
        """The plots follow the cursor."""
        self._draw_plots(self.app_.view)

    def on_data_table_row_selected(self) -> None:
        """Enter or a click on the row."""
        self.action_choose()

    def action_choose(self) -> None:
        """Use the profile under the cursor for the next run."""
        key = self.query_one("#profiles", FigureTable).key_at_cursor
        self.app_.tell(told.DeviceChosen(key or None))
        self.app_.say(f"The next run is for {key}." if key else "The next run measures this device first.")

    def action_profile(self, is_quick: bool) -> None:
        """Measure this device and keep the profile."""
        self.app_.submit(ProfileJob(quick=is_quick, save=SAVED_NAME))
        self.app_.say(f"This device is being measured; it will be kept as {SAVED_NAME!r}. Leave it alone meanwhile.")

    def action_swap(self) -> None:
        """The other plot, where only one has room."""
        self._shows_roofline = not self._shows_roofline
        self.draw(self.app_.view)


def _source(entry: NamedProfile) -> Source:
    return Source(f"profile {entry.name}", entry.profile)


def _here(view: View) -> Row:
    mark = "*" if view.draft.device is None else ""
    meters = source(view, "meters")
    return Row("", (mark, "this device", "measured by the run", "", meters.take("total_bytes", "bytes"), *[""] * 5))


def _row(view: View, entry: NamedProfile) -> Row:
    at = _source(entry)
    basis = "measured" if entry.profile.basis == "measured" else "data sheet"
    cells = (
        "*" if view.draft.device == entry.name else "",
        entry.name,
        f"saved, {basis}" if entry.is_saved else basis,
        at.take("cpu.usable_core_count", "count"),
        at.take("memory.usable_bytes", "bytes"),
        peak_bandwidth(at),
        at.take("floor.peak_rss_bytes", "bytes"),
        at.take("cpu.model"),
        Sourced(at.record, "kernel_times", len(entry.profile.kernel_times) or None, "count"),
        at.take("runtime.onnxruntime_version"),
    )
    return Row(entry.name, cells, is_strong=view.draft.device == entry.name)


def _bars(view: View) -> list[Bar]:
    at = source(view, "meters")
    meters = at.content
    if not isinstance(meters, Meters):
        return [Bar("memory", None, (at.take("available_bytes", "bytes"),))]
    free, total = at.take("available_bytes", "bytes"), at.take("total_bytes", "bytes")
    used = None
    if meters.available_bytes is not None and meters.total_bytes:
        used = 1.0 - meters.available_bytes / meters.total_bytes
    bars = [Bar("memory", used, (free, total), joint=" free of ", remark=_word(used), style=_style(used))]
    shown = min(len(meters.core_loads), 4)
    if len(meters.core_loads) > shown:
        order = sorted(range(len(meters.core_loads)), key=lambda core: -meters.core_loads[core])[:shown]
    else:
        order = list(range(shown))
    for core in sorted(order):
        load = meters.core_loads[core]
        bars.append(Bar(f"core {core}", load, (at.take(f"core_loads[{core}]", "fraction"),), style=_style(load)))
    for index, gpu in enumerate(meters.gpus[:2]):
        figures = (at.take(f"gpus[{index}].load_fraction", "fraction"), at.take(f"gpus[{index}].used_bytes", "bytes"))
        bars.append(Bar(f"gpu {index}", gpu.load_fraction, figures, joint=", ", remark=gpu.name[:24]))
    return bars


def _word(share: float | None) -> str:
    return "" if share is None else "nearly full" if share > _FULL else ""


def _style(share: float | None) -> str:
    return "$primary" if share is None or share < _HIGH else "$warning" if share < _FULL else "$error"
