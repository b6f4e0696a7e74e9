"""Plots as SVG text, drawn without a plotting library so that the report is one small file.

Every plot names itself (`<title>`), writes its values beside its marks, and distinguishes kinds by shape as well as by
colour; colours come from the page's style sheet (`currentColor` and classes), so that light and dark both work.
"""

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from edgeprune.schema.candidate import Candidate, SearchResult
from edgeprune.schema.measurement import BundleMeasurement
from edgeprune.units import format_bytes, format_seconds

__all__ = ["front_plot", "latency_plot"]

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 16, 46
LOSS_TICKS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
LOSS_KNEE = 0.02
"""Below 2 % the loss axis is linear, above logarithmic: zero and 300 % are both on it."""
BIN_COUNT = 32
STRIP_HEIGHT = 74


def front_plot(search: SearchResult) -> Markup:
    """Predicted loss over predicted bytes on disk: the front, the baselines and the choice."""
    kinds: list[tuple[str, Candidate]] = [("front", entry) for entry in search.front if entry.label == "front"]
    kinds += [("plain", entry) for entry in (search.dense, *search.baselines)]
    if search.chosen is not None:
        kinds.append(("chosen", search.chosen))
    sizes = [math.log(entry.cost.disk_bytes) for _, entry in kinds]
    low, high = min(sizes), max(sizes)
    reach = (high - low) or 1.0
    top = max(_loss_scale(entry.relative_loss) for _, entry in kinds) * 1.05 or 1.0

    def x_of(entry: Candidate) -> float:
        share = (math.log(entry.cost.disk_bytes) - low + 0.04 * reach) / (1.12 * reach)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y_of(loss: float) -> float:
        return HEIGHT - BOTTOM - max(0.0, _loss_scale(loss)) / top * (HEIGHT - BOTTOM - TOP)

    parts = [_axes("bytes on disk (logarithmic)", "loss added to the dense model")]
    for tick in LOSS_TICKS:
        if _loss_scale(tick) <= top:
            y = y_of(tick)
            parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.0%}</text>')
    line = " ".join(f"{x_of(entry):.1f},{y_of(entry.relative_loss):.1f}" for entry in search.front)
    parts.append(f'<polyline class="line" points="{line}"/>')
    shown_at: list[float] = []
    for kind, entry in kinds:
        x, y = x_of(entry), y_of(entry.relative_loss)
        told = f"{entry.label}: {format_bytes(entry.cost.disk_bytes)}, loss {entry.relative_loss:+.1%}"
        parts.append(f"<g><title>{escape(told)}</title>{_marker(kind, x, y)}</g>")
        name = {"front": "", "chosen": "chosen"}.get(kind, entry.label)
        if name:
            anchor = "end" if x > WIDTH - 120 else "start"
            shift = -8 if anchor == "end" else 8
            above = -14 if kind == "chosen" else -6
            parts.append(f'<text x="{x + shift:.1f}" y="{y + above:.1f}" text-anchor="{anchor}">{escape(name)}</text>')
        if all(abs(x - other) > 58 for other in shown_at):
            shown_at.append(x)
            parts.append(
                f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">'
                f"{escape(format_bytes(entry.cost.disk_bytes))}</text>"
            )
    return _svg("Front: predicted loss over bytes on disk", WIDTH, HEIGHT, parts)


def latency_plot(measurements: Sequence[BundleMeasurement]) -> Markup:
    """Histograms of the time per decoded token, one strip a model, on one axis."""
    strips = [
        (entry.label, [sample for process in entry.decode for sample in process.samples_s], entry.decode_s)
        for entry in measurements
    ]
    strips = [(label, samples, best) for label, samples, best in strips if samples]
    if not strips:
        return Markup("")
    # A pause of the system can take a hundred tokens' time: what is beyond three medians stands in the last bin.
    longest = 1.05 * max(min(_quantile(samples, 0.99), 3.0 * _quantile(samples, 0.5)) for _, samples, _ in strips)
    height = TOP + STRIP_HEIGHT * len(strips) + BOTTOM
    span = WIDTH - LEFT - RIGHT
    parts = []
    for position, (label, samples, best) in enumerate(strips):
        base = TOP + STRIP_HEIGHT * (position + 1)
        counts = [0] * BIN_COUNT
        for sample in samples:
            counts[min(BIN_COUNT - 1, int(sample / longest * BIN_COUNT))] += 1
        tallest = max(counts)
        for index, count in enumerate(counts):
            if count:
                bar = max(1.0, count / tallest * (STRIP_HEIGHT - 26))
                x = LEFT + index * span / BIN_COUNT
                parts.append(
                    f'<rect class="bar" x="{x + 0.5:.1f}" y="{base - bar:.1f}" '
                    f'width="{span / BIN_COUNT - 1:.1f}" height="{bar:.1f}">'
                    f"<title>{count} of {len(samples)} tokens</title></rect>"
                )
        parts.append(f'<line class="axis" x1="{LEFT}" y1="{base}" x2="{WIDTH - RIGHT}" y2="{base}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{base - 8}" text-anchor="end">{escape(label)}</text>')
        if best is not None:
            x = LEFT + min(1.0, best / longest) * span
            parts.append(f'<line class="mark" x1="{x:.1f}" y1="{base}" x2="{x:.1f}" y2="{base - STRIP_HEIGHT + 22}"/>')
            anchor, shift = ("end", -5) if x > WIDTH - 160 else ("start", 5)
            parts.append(
                f'<text x="{x + shift:.1f}" y="{base - STRIP_HEIGHT + 20}" text-anchor="{anchor}">'
                f"{escape(format_seconds(best))}</text>"
            )
    foot = TOP + STRIP_HEIGHT * len(strips)
    parts += [
        f'<text x="{LEFT + share * span:.1f}" y="{foot + 16}" text-anchor="middle">'
        f"{escape(format_seconds(share * longest))}</text>"
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    parts.append(
        f'<text x="{LEFT + span / 2:.1f}" y="{foot + 38}" text-anchor="middle">'
        "time per token; the line is the median of the best process</text>"
    )
    return _svg("Time per decoded token", WIDTH, height, parts)


def _loss_scale(loss: float) -> float:
    return math.asinh(loss / LOSS_KNEE)


def _quantile(samples: Sequence[float], share: float) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _marker(kind: str, x: float, y: float) -> str:
    if kind == "chosen":
        corners = f"{x:.1f},{y - 9:.1f} {x + 9:.1f},{y:.1f} {x:.1f},{y + 9:.1f} {x - 9:.1f},{y:.1f}"
        return f'<polygon class="chosen" points="{corners}"/>'
    if kind == "plain":
        return f'<rect class="plain" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10"/>'
    return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'


def _axes(below: str, beside: str) -> str:
    bottom, middle = HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
    return (
        f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}"/>'
        f'<line class="axis" x1="{LEFT}" y1="{TOP}" x2="{LEFT}" y2="{bottom}"/>'
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(below)}</text>'
        f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{escape(beside)}</text>'
    )


def _svg(title: str, width: int, height: int, parts: Sequence[str]) -> Markup:
    """Only numbers of ours and escaped text were put into `parts`."""
    name = escape(title)
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{name}"><title>{name}</title>'
        + "".join(parts)
        + "</svg>"
    )
