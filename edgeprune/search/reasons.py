"""Sentences of an explanation: why an option was taken, or not, in the limits' own units."""

from collections.abc import Callable, Mapping

from edgeprune.schema.explanation import Alternative
from edgeprune.schema.lock import Lock
from edgeprune.units import format_bytes, format_seconds

__all__ = ["TIE_NATS", "choice_sentence", "nats", "reason"]

TIE_NATS = 1e-7
"""Differences below this come from tolerances and from ties broken by time."""

_RESOURCES: tuple[tuple[str, str, Callable[[Alternative], float | None], Callable[[float | None], str]], ...] = (
    ("disk", "of disk", lambda option: option.disk_bytes, format_bytes),
    ("memory", "of memory", lambda option: option.memory_bytes, format_bytes),
    ("latency", "a token", lambda option: option.decode_s, format_seconds),
)
"""Quantity, how it is said, where it stands, how it is printed."""


def nats(value: float) -> str:
    """Nats a token, three digits."""
    return f"{value:.3g} nats"


def reason(
    chosen: Alternative, other: Alternative, prices: Mapping[str, float], *, misses: str | None, is_edited: bool
) -> str:
    """Why `chosen` and not `other`, in a few words.

    Args:
        chosen: what the recipe does.
        other: what it could do instead.
        prices: quantity -> nats per unit.
        misses: the limits that taking the other alone would miss, in words; None when it would miss none.
        is_edited: the recipe is not the search's own choice.
    """
    if other.standing == "locked":
        return "a lock refuses it"
    if other.standing == "infeasible":
        return "nothing that drops just these keeps the limits"
    if other.standing == "beaten":
        return "another option takes no more of anything and loses no more"
    if chosen.loss_nats is None or other.loss_nats is None:
        return "one of the two was never scored"
    more = other.loss_nats - chosen.loss_nats
    if other.margin_nats is None or chosen.priced_nats is None or other.priced_nats is None:
        said = f"loses {nats(abs(more))} {'more' if more > 0 else 'less'}"
        return said if misses is None else f"{said}, but misses {misses}"
    charge = (other.priced_nats - other.loss_nats) - (chosen.priced_nats - chosen.loss_nats)
    if other.drop_blocks is not None:
        freed = more - other.margin_nats
        if more < 0.0:
            return f"loses {nats(-more)} less by itself, and what it takes is worth {nats(-freed)} elsewhere"
        return f"loses {nats(more)} more by itself, and what it frees is worth {nats(freed)} elsewhere"
    if other.margin_nats < -TIE_NATS:
        return _better(chosen, other, prices, more, misses=misses, is_edited=is_edited)
    if abs(other.margin_nats) <= TIE_NATS and abs(more) <= TIE_NATS:
        return "as good"
    if more > 0.0 > charge:
        return (
            f"saves {_difference(chosen, other, prices)} but loses {nats(more)} more, {_times(more, -charge)} its worth"
        )
    if more < 0.0 < charge:
        taken = _difference(other, chosen, prices)
        return f"loses {nats(-more)} less but takes {taken} more, {_times(charge, -more)} too dear"
    if charge > 0.0:
        return f"loses {nats(more)} more and takes {_difference(other, chosen, prices)} more"
    return f"loses {nats(more)} more and saves nothing that is short"


def choice_sentence(chosen: Alternative, closest: Alternative | None, locks: tuple[Lock, ...]) -> str:
    """Why this option: the lock that asks for it, or the next best and what speaks against it."""
    held = f"held by {' and '.join(f'`{lock}`' for lock in locks)}; " if locks else ""
    if chosen.standing == "unscored":
        return f"{chosen.label}: {held}written by hand and never scored, so nothing is predicted of it"
    if closest is None:
        return f"{chosen.label}: {held}no other option is left"
    return f"{chosen.label}: {held}next best, {closest.label}, {closest.reason}"


def _better(
    chosen: Alternative,
    other: Alternative,
    prices: Mapping[str, float],
    more: float,
    *,
    misses: str | None,
    is_edited: bool,
) -> str:
    """An option that is better at the going prices: an edit was worse, or options cannot be taken in fractions."""
    gain = f"better by {nats(-(other.margin_nats or 0.0))} at the going prices"
    if misses is not None:
        return f"{gain}, but misses {misses}"
    if is_edited or more <= 0.0:
        return f"{gain}, and fits"
    saved = _difference(chosen, other, prices)
    return f"loses {nats(more)} more and saves {saved}, worth more, but no other choice can use just that"


def _times(first: float, second: float) -> str:
    ratio = first / max(second, 1e-30)
    return f"{ratio:.1f}x" if ratio < 99.5 else "over 99x"


def _difference(larger: Alternative, smaller: Alternative, prices: Mapping[str, float]) -> str:
    """What `larger` takes more of the resources that have a price, such as `12.3 kB of disk and 0.2 ms a token`."""
    parts = []
    for name, said, read, shown in _RESOURCES:
        first, second = read(larger), read(smaller)
        if prices.get(name, 0.0) > 0.0 and first is not None and second is not None and first > second:
            parts.append(f"{shown(first - second)} {said}")
    others = [name for name in prices if prices[name] > 0.0 and name not in ("disk", "memory", "latency")]
    return " and ".join(parts or others or ["resources"])
