"""Plots of a run: the front with its choice and baselines, and how the time per token was spread."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgeprune.schema.candidate import Candidate, SearchResult
from edgeprune.schema.measurement import BundleMeasurement, ValidationReport
from edgeprune.tui.canvas import Axis
from edgeprune.tui.plot_data import Mark, PlotData
from edgeprune.tui.sourced import Kind, Source, Sourced, rounded
from edgeprune.tui.terminal import Looks

__all__ = ["FRONT_AXES", "FrontAxis", "front_plot", "latency_plot"]

LOSS_TICKS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
LOSS_KNEE = 0.02
"""Below 2 % the loss axis is linear, above logarithmic, as in the report: zero and 300 % are both on it."""
BIN_COUNT = 40


@dataclass(frozen=True)
class FrontAxis:
    """What the front is drawn over."""

    title: str
    path: str
    """Inside a `Candidate`."""
    kind: Kind
    limit_path: str
    """Inside a `SearchResult`."""


FRONT_AXES = (
    FrontAxis("bytes on disk", "cost.disk_bytes", "bytes", "budget.disk_bytes"),
    FrontAxis("peak memory", "cost.peak_rss_bytes.value", "bytes", "budget.memory_bytes"),
    FrontAxis("time per token", "cost.decode_s.value", "seconds", "budget.latency_s"),
)


def front_plot(at: Source, axis: FrontAxis, looks: Looks, *, cursor: int | None = None) -> PlotData | None:
    """Predicted loss over one cost; None where there is no result.

    Args:
        at: of a `SearchResult`.
        axis: what to draw it over.
        looks: which marks the terminal has.
        cursor: place on the front to point at.
    """
    result = at.content
    if not isinstance(result, SearchResult):
        return None
    named = [
        ("plain", "dense", result.dense),
        *(("plain", f"baselines[{i}]", entry) for i, entry in enumerate(result.baselines)),
    ]
    front = [("front", f"front[{i}]", entry) for i, entry in enumerate(result.front)]
    chosen = [] if result.chosen is None else [("chosen", "chosen", result.chosen)]
    drawn = []
    figures: list[Sourced] = []
    for kind, path, entry in [*front, *named, *chosen]:
        x, y = at.take(f"{path}.{axis.path}", axis.kind), at.take(f"{path}.relative_loss", "change")
        if isinstance(x.value, (int, float)) and x.value > 0:
            drawn.append((kind, entry, float(x.value)))
            figures += [x, y]
    if not drawn:
        return None
    limit = at.take(axis.limit_path, axis.kind)
    edges = [x for _, _, x in drawn]
    if isinstance(limit.value, (int, float)) and limit.value > 0:
        edges.append(min(float(limit.value), 1.3 * max(edges)))
    low, high = min(edges) / 1.08, max(edges) * 1.25
    top = max(0.02, 1.15 * max(entry.relative_loss for _, entry, _ in drawn))
    bottom = min(0.0, min(entry.relative_loss for _, entry, _ in drawn))
    marks = [_mark(kind, entry, x, looks) for kind, entry, x in drawn]
    if cursor is not None and 0 <= cursor < len(result.front):
        found = at.take(f"front[{cursor}].{axis.path}", axis.kind).value
        if isinstance(found, (int, float)):
            marks.append(Mark(float(found), result.front[cursor].relative_loss, "O", "$accent bold"))
    lines = [tuple((x, entry.relative_loss) for kind, entry, x in drawn if kind == "front")]
    if isinstance(limit.value, (int, float)) and low <= limit.value <= high:
        lines.append(((float(limit.value), bottom), (float(limit.value), top)))
        figures.append(limit)
    letters = looks.marks
    return PlotData(
        x=Axis(low, high, lambda value: rounded(value, axis.kind), scale=math.log, tick_values=_steps(low, high)),
        y=Axis(bottom, top, lambda value: f"{value:+.0%}", scale=_loss_scale, tick_values=LOSS_TICKS),
        title=f"predicted loss over {axis.title}",
        lines=tuple(lines),
        marks=tuple(marks),
        legend=f"{letters['chosen']} chosen  {letters['front']} front  {letters['plain']} plain  | limit",
        figures=tuple(figures),
    )


def latency_plot(at: Source, place: int, write: Callable[[float], str]) -> PlotData | None:
    """Histogram of the time per decoded token of one measured bundle; None where none was decoded.

    Args:
        at: of a `ValidationReport`.
        place: of the bundle among its measurements.
        write: how a time is written.
    """
    report = at.content
    if not isinstance(report, ValidationReport) or not 0 <= place < len(report.measurements):
        return None
    entry: BundleMeasurement = report.measurements[place]
    samples = sorted(sample for process in entry.decode for sample in process.samples_s)
    if not samples:
        return None
    # A pause of the system can take a hundred tokens' time: what is beyond stands in the last bin.
    last = samples[min(len(samples) - 1, int(0.99 * len(samples)))]
    low, high = samples[0] * 0.95, max(last, samples[0] * 1.05) * 1.02
    counts = [0] * BIN_COUNT
    for sample in samples:
        counts[min(BIN_COUNT - 1, max(0, int((sample - low) / (high - low) * BIN_COUNT)))] += 1
    width = (high - low) / BIN_COUNT
    bars = [
        ((low + (index + part) * width, 0.0), (low + (index + part) * width, float(count)))
        for index, count in enumerate(counts)
        if count
        for part in (0.1, 0.3, 0.5, 0.7, 0.9)
    ]
    median = at.take(f"measurements[{place}].decode_s", "seconds")
    marks = []
    if isinstance(median.value, float):
        marks.append(Mark(min(high, median.value), float(max(counts)), "v", "$accent bold", label="median"))
    return PlotData(
        x=Axis(low, high, write),
        y=Axis(0.0, 1.1 * max(counts), lambda value: f"{value:.0f}"),
        title=f"tokens, over time per token: {entry.label}",
        lines=tuple(bars),
        marks=tuple(marks),
        figures=(median,),
    )


def _mark(kind: str, entry: Candidate, x: float, looks: Looks) -> Mark:
    style = {"chosen": "$accent bold", "front": "$secondary", "plain": "$warning"}[kind]
    label = entry.label if kind == "plain" else ""
    return Mark(x, entry.relative_loss, looks.marks[kind], style, label)


def _loss_scale(loss: float) -> float:
    return math.asinh(loss / LOSS_KNEE)


def _steps(low: float, high: float) -> tuple[float, ...]:
    """1, 2, 5 and their multiples by ten inside a range; more of them where there would be fewer than three."""
    for factors in (
        (1, 2, 5),
        (1, 1.5, 2, 3, 4, 5, 6, 8),
        (1, 1.2, 1.4, 1.6, 1.8, 2, 2.2, 2.5, 2.8, 3.2, 3.6, 4, 4.5, 5, 6, 7, 8, 9),
    ):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = tuple(
            factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high
        )
        if len(found) >= 3:
            return found
    return (low, high)
