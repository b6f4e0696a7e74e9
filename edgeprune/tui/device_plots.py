"""Plots of a device profile: bandwidth over array size, and the roofline its kernels were measured under.

Roofline (Williams, Waterman, Patterson, CACM 2009): attainable FLOP/s = min(peak, bandwidth * FLOP/byte). The roof's
flat part is the fastest kernel that was measured; a data sheet has no kernels, so only the slope is drawn.
"""

import math

from edgeprune.schema.device import DeviceProfile, KernelTime
from edgeprune.schema.kernel import stored_bytes
from edgeprune.tui.canvas import Axis
from edgeprune.tui.plot_data import Mark, PlotData
from edgeprune.tui.sourced import Source, Sourced
from edgeprune.units import format_bytes

__all__ = ["bandwidth_plot", "peak_bandwidth", "roofline_plot"]


def peak_bandwidth(source: Source) -> Sourced:
    """The data sheet's bandwidth, or the best that was measured out of memory (the largest array, all threads)."""
    profile = source.content
    assert profile is None or isinstance(profile, DeviceProfile)
    if profile is None or profile.peak_bandwidth_bytes_per_s is not None or not profile.bandwidth:
        return source.take("peak_bandwidth_bytes_per_s", "rate")
    largest = max(point.array_bytes for point in profile.bandwidth)
    index, _ = max(
        ((index, point) for index, point in enumerate(profile.bandwidth) if point.array_bytes == largest),
        key=lambda entry: entry[1].read_best_bytes_per_s or 0.0,
    )
    return source.take(f"bandwidth[{index}].read_best_bytes_per_s", "rate")


def bandwidth_plot(source: Source) -> PlotData | None:
    """Best read bandwidth over the array's size, one line a thread count; None where no curve was measured."""
    profile = source.content
    if not isinstance(profile, DeviceProfile):
        return None
    lines: dict[int, list[tuple[float, float]]] = {}
    figures = []
    for index, point in enumerate(profile.bandwidth):
        if point.read_best_bytes_per_s is None:
            continue
        lines.setdefault(point.thread_count, []).append((float(point.array_bytes), point.read_best_bytes_per_s))
        figures.append(source.take(f"bandwidth[{index}].read_best_bytes_per_s", "rate"))
    if not figures:
        return None
    points = [point for line in lines.values() for point in line]
    sizes = [x for x, _ in points]
    ends = [
        Mark(line[-1][0], line[-1][1], "*", label=f"{threads} thread{'s' if threads > 1 else ''}")
        for threads, line in sorted(lines.items())
    ]
    return PlotData(
        x=Axis(min(sizes), max(sizes), format_bytes, scale=math.log),
        y=Axis(0.0, 1.1 * max(y for _, y in points), lambda value: f"{value / 1e9:.0f}"),
        title="GB/s read, over the bytes of an array",
        lines=tuple(tuple(sorted(line)) for line in lines.values()),
        marks=tuple(ends),
        figures=tuple(figures),
    )


def roofline_plot(source: Source) -> PlotData | None:
    """FLOP/s of the dense kernels over FLOP a byte of weights, under the slope of the memory's bandwidth."""
    profile = source.content
    if not isinstance(profile, DeviceProfile):
        return None
    bandwidth = peak_bandwidth(source)
    slope = bandwidth.value
    if not isinstance(slope, (int, float)):
        return None
    dense = [(index, entry) for index, entry in enumerate(profile.kernel_times) if entry.rank is None]
    points = [(_intensity(entry), _flops(entry), entry) for _, entry in dense]
    low = min([0.25, *(x for x, _, _ in points)])
    high = max([256.0, *(x for x, _, _ in points)])
    top = max((y for _, y, _ in points), default=slope * 16.0)
    knee = min(high, top / slope)
    roof = ((low, slope * low), (knee, slope * knee), *(((high, top),) if points else ()))
    shapes = {"float": "o", "matmul_nbits": "+", "dynamic_int8": "x"}
    marks = [Mark(x, y, shapes[_kind(entry)], style="$accent") for x, y, entry in points]
    floor = min([slope * low, *(y for _, y, _ in points)])
    return PlotData(
        x=Axis(low, high, lambda value: f"{value:.3g}", scale=math.log, tick_values=(0.25, 1, 4, 16, 64, 256, 1024)),
        y=Axis(floor, 1.5 * top, _flops_text, scale=math.log,
               tick_values=(1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14)),
        title="FLOP/s, over FLOP a byte of weights",
        lines=(roof,),
        marks=tuple(marks),
        legend="o float   + int4, int8   x dynamic int8" if points else "slope: bandwidth; no kernels were measured",
        figures=(bandwidth, *(source.take(f"kernel_times[{index}].time_s", "seconds") for index, _ in dense)),
    )  # fmt: skip


def _flops(entry: KernelTime) -> float:
    return 2.0 * entry.rows * entry.in_features * entry.out_features / entry.time_s


def _intensity(entry: KernelTime) -> float:
    weights = stored_bytes(entry.kernel, in_features=entry.in_features, out_features=entry.out_features)
    return 2.0 * entry.rows * entry.in_features * entry.out_features / weights


def _kind(entry: KernelTime) -> str:
    return "float" if entry.kernel.startswith("fp") else "dynamic_int8" if "dynamic" in entry.kernel else "matmul_nbits"


def _flops_text(value: float) -> str:
    return f"{value / 1e12:.3g}T" if value >= 1e12 else f"{value / 1e9:.3g}G" if value >= 1e9 else f"{value / 1e6:.3g}M"
