"""Where a recipe differs from the search's own choice, and what each difference costs."""

from collections.abc import Iterable

from edgeprune.schema.explanation import Alternative, Departure
from edgeprune.search.alternatives import Alternatives
from edgeprune.search.menu import Taken

__all__ = ["departures"]


def departures(written: Taken, optimal: Taken, options: Alternatives) -> tuple[Departure, ...]:
    """One entry for each choice that differs; blocks only one of the two keeps are part of the set dropped.

    Args:
        written: what the recipe takes.
        optimal: what the search took.
        options: figures of options in the written recipe's company.
    """
    found: list[Departure] = []
    pairs: list[tuple[str, int | None, int | None]] = [("tables", written.tables, optimal.tables)]
    own, others = _pieces(written), _pieces(optimal)
    pairs += [(name, own[name], others[name]) for name in own if name in others]
    for name, first, second in pairs:
        before, after = options.alone(name, second, optimal), options.alone(name, first, written)
        if (before.label, before.standing) != (after.label, after.standing):
            found.append(_departure(name, after, before))
    if written.depth != optimal.depth:
        found.insert(0, _depth(written, optimal, options))
    return tuple(found)


def _departure(name: str, written: Alternative, optimal: Alternative) -> Departure:
    return Departure(
        name=name,
        written=written.label,
        optimal=optimal.label,
        loss_nats=_less(written.loss_nats, optimal.loss_nats),
        disk_bytes=_whole(_less(written.disk_bytes, optimal.disk_bytes)),
        memory_bytes=_less(written.memory_bytes, optimal.memory_bytes),
        decode_s=_less(written.decode_s, optimal.decode_s),
    )


def _depth(written: Taken, optimal: Taken, options: Alternatives) -> Departure:
    """The sets of blocks and halves, with everything in what only one of the two keeps."""
    first, second = options.alone("depth", written.depth, written), options.alone("depth", optimal.depth, optimal)
    own, others = _pieces(written), _pieces(optimal)
    more = [options.alone(name, at, written) for name, at in own.items() if name not in others]
    less = [options.alone(name, at, optimal) for name, at in others.items() if name not in own]
    return Departure(
        name="depth",
        written=first.label,
        optimal=second.label,
        loss_nats=_less(_sum([first.loss_nats, *(piece.loss_nats for piece in more)]),
                        _sum([second.loss_nats, *(piece.loss_nats for piece in less)])),
        disk_bytes=_whole(_less(_sum(piece.disk_bytes for piece in more), _sum(piece.disk_bytes for piece in less))),
        memory_bytes=_less(_sum(piece.memory_bytes for piece in more), _sum(piece.memory_bytes for piece in less)),
        decode_s=_less(_sum(piece.decode_s for piece in more), _sum(piece.decode_s for piece in less)),
    )  # fmt: skip


def _pieces(taken: Taken) -> dict[str, int | None]:
    """Choice -> column, of the widths, groups and sites a recipe keeps, block by block."""
    found = {f"block.{block} width": (block, 0, at) for block, at in taken.widths.items()}
    found |= {f"block.{block} groups": (block, 1, at) for block, at in taken.groups.items()}
    found |= {name: (int(name.split(".")[1]), 2, at) for name, at in taken.sites.items()}
    return {name: found[name][2] for name in sorted(found, key=lambda name: found[name][:2])}


def _less(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    numbers = [value for value in known if value is not None]
    return sum(numbers) if len(numbers) == len(known) else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
