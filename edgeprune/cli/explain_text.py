"""An explanation as text of at most 100 columns: the whole first, then a table a block."""

import textwrap
from collections.abc import Iterable

from edgeprune.cli.output import table
from edgeprune.schema.explanation import Alternative, BlockExplanation, Choice, Departure, Explanation, LimitPrice
from edgeprune.units import format_bytes, format_fraction, format_seconds

__all__ = ["block_text", "choice_text", "overview_text"]

WIDTH = 98
SHOWN = 12
"""Alternatives of one choice; `--json` has all."""


def overview_text(explanation: Explanation) -> str:
    """Everything but the alternatives that were not close."""
    lost = "not predicted" if explanation.relative_loss is None else f"{explanation.relative_loss:+.2%}"
    parts = [
        f"{explanation.source}\n{explanation.device_name}, context {explanation.context_tokens}, loss {lost}, "
        f"budget {explanation.predicted.replace('_', ' ')} as predicted",
        *map(_wrapped, explanation.summary),
        _limits(explanation.limits),
    ]
    if explanation.locks:
        parts.append(_wrapped(f"locks: {', '.join(map(str, explanation.locks))}"))
    if explanation.departures:
        parts.append(_departures(explanation.departures))
    parts.append(
        "\n".join(_wrapped(f"{choice.name}: {choice.sentence}") for choice in (explanation.depth, explanation.tables))
    )
    parts += [block_text(block, is_full=False) for block in explanation.blocks]
    return "\n\n".join(part for part in parts if part)


def block_text(block: BlockExplanation, *, is_full: bool) -> str:
    """One block; in full with the alternatives of every choice."""
    if block.width is None:
        return _wrapped(f"block {block.index} {block.sentence}")
    head = f"block {block.index}: {_nats(block.loss_nats)} nats, {format_bytes(block.disk_bytes)} on disk, "
    head += f"{format_bytes(block.memory_bytes)} of memory, {format_seconds(block.decode_s)} a token"
    choices = [choice for choice in (block.width, block.groups, *block.sites) if choice is not None]
    if is_full:
        return "\n\n".join([head, _wrapped(block.sentence), *map(choice_text, choices)])
    rows = [_row(choice) for choice in choices]
    columns = ["", "chosen", "nats", "disk", "a token", "next best", "nats", "disk", "worse by"]
    return "\n".join([head, table(columns, rows), _wrapped(block.sentence)])


def choice_text(choice: Choice) -> str:
    """One choice with its alternatives, the closest first."""
    rows = [_alternative(choice.chosen), *map(_alternative, choice.alternatives[:SHOWN])]
    left = len(choice.alternatives) - SHOWN
    lines = [
        _wrapped(f"{choice.name}: {choice.sentence}"),
        table(["", "", "nats", "disk", "memory", "a token", "worse by"], rows),
    ]
    if left > 0:
        lines.append(f"... and {left} more that are further off (--json has all)")
    return "\n".join(lines)


def _limits(limits: Iterable[LimitPrice]) -> str:
    rows = []
    for entry in limits:
        show = _shown(entry.quantity)
        limit = "least" if entry.limit is None else show(entry.limit)
        rows.append([entry.quantity, limit, show(entry.predicted), _price(entry)])
    return table(["limit", "allowed", "predicted", "price"], rows) if rows else ""


def _price(entry: LimitPrice) -> str:
    if entry.nats_per_unit is None:
        return "-"
    if entry.nats_per_unit == 0.0:
        return "0: does not bind"
    if entry.quantity in ("latency", "first token"):
        return f"{entry.nats_per_unit * 1e-3:.2g} nats/ms"
    if entry.quantity in ("general loss",):
        return f"{entry.nats_per_unit * 1e-2:.2g} nats/%"
    return f"{entry.nats_per_unit * 1e6:.2g} nats/MB"


def _shown(quantity: str):  # type: ignore[no-untyped-def]
    if quantity in ("latency", "first token"):
        return format_seconds
    return format_fraction if quantity in ("loss", "general loss", "accuracy") else format_bytes


def _departures(departures: Iterable[Departure]) -> str:
    rows = [
        [
            entry.name,
            entry.written,
            entry.optimal,
            _nats(entry.loss_nats, signed=True),
            _signed_bytes(entry.disk_bytes),
            _signed_bytes(entry.memory_bytes),
        ]
        for entry in departures
    ]
    return table(["by hand", "written", "the search's", "nats", "disk", "memory"], rows)


def _row(choice: Choice) -> list[str]:
    chosen = choice.chosen
    name = choice.name.rsplit(" ", 1)[-1] if " " in choice.name else choice.name.rsplit(".", 1)[-1]
    own = [
        name + ("*" if choice.locks else ""),
        _short(chosen.label),
        _nats(chosen.loss_nats),
        format_bytes(chosen.disk_bytes),
    ]
    own.append(format_seconds(chosen.decode_s))
    closest = next((option for option in choice.alternatives if option.standing == "open"), None)
    if closest is None:
        return [*own, "-", "", "", ""]
    loss = None if closest.loss_nats is None or chosen.loss_nats is None else closest.loss_nats - chosen.loss_nats
    disk = None if closest.disk_bytes is None or chosen.disk_bytes is None else closest.disk_bytes - chosen.disk_bytes
    return [*own, _short(closest.label), _nats(loss, signed=True), _signed_bytes(disk), _nats(closest.margin_nats)]


def _alternative(option: Alternative) -> list[str]:
    mark = {"chosen": "*", "open": ""}.get(option.standing, option.standing)
    return [
        option.label,
        mark,
        _nats(option.loss_nats),
        format_bytes(option.disk_bytes),
        format_bytes(option.memory_bytes),
        format_seconds(option.decode_s),
        "" if option.standing == "chosen" else _nats(option.margin_nats),
    ]


def _short(label: str) -> str:
    return label.replace(" rank ", " r")


def _nats(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "n/a"
    return f"{value:+.5f}" if signed else f"{value:.5f}"


def _signed_bytes(value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{'+' if value >= 0 else '-'}{format_bytes(abs(value))}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
