"""`PlotData`: what a plot shows, in the units of its axes; made from records by the `*_plots` modules."""

from dataclasses import dataclass, field

from edgeprune.tui.canvas import Axis
from edgeprune.tui.sourced import Sourced

__all__ = ["Mark", "PlotData"]


@dataclass(frozen=True)
class Mark:
    """One point with a shape of its own."""

    x: float
    y: float
    character: str
    style: str = "bold"
    label: str = ""
    """Written beside it where there is room."""


@dataclass(frozen=True)
class PlotData:
    """Everything one plot shows, in the units of its axes."""

    x: Axis
    y: Axis
    title: str = ""
    """Names both axes."""
    lines: tuple[tuple[tuple[float, float], ...], ...] = ()
    marks: tuple[Mark, ...] = ()
    """Later ones lie over earlier ones."""
    legend: str = ""
    figures: tuple[Sourced, ...] = field(default=(), compare=False)
    """What was drawn, with its records."""
