"""Where a recipe differs from the search's own choice, and what each difference costs."""

from collections.abc import Iterable

from edgeprune.schema.explanation import Alternative, Departure
from edgeprune.search.alternatives import Alternatives
from edgeprune.search.menu import Menu, Taken

__all__ = ["departures"]


def departures(menu: Menu, written: Taken, optimal: Taken, options: Alternatives) -> tuple[Departure, ...]:
    """One entry for each choice that differs; blocks only one of the two keeps are part of the set dropped.

    Args:
        menu: all options.
        written: what the recipe takes.
        optimal: what the search took.
        options: figures of options in the written recipe's company.
    """
    found: list[Departure] = []
    pairs: list[tuple[str, int | None, int | None]] = [("tables", written.tables, optimal.tables)]
    for block in menu.problem.spec.blocks:
        if block.index not in written.widths or block.index not in optimal.widths:
            continue
        pairs.append((f"block.{block.index} width", written.widths[block.index], optimal.widths[block.index]))
        pairs += [(site.name, written.sites[site.name], optimal.sites[site.name]) for site in block.sites]
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
    """The sets of blocks, with everything in the blocks that only one of the two keeps."""
    first, second = options.alone("depth", written.depth, written), options.alone("depth", optimal.depth, optimal)
    more = _block_pieces(written, set(written.widths) - set(optimal.widths), options)
    less = _block_pieces(optimal, set(optimal.widths) - set(written.widths), options)
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


def _block_pieces(taken: Taken, blocks: set[int], options: Alternatives) -> list[Alternative]:
    names = [(f"block.{block} width", taken.widths[block]) for block in sorted(blocks)]
    names += [(name, at) for name, at in taken.sites.items() if int(name.split(".")[1]) in blocks]
    return [options.alone(name, at, taken) for name, at in names]


def _less(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    numbers = [value for value in known if value is not None]
    return sum(numbers) if len(numbers) == len(known) else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
