"""`Interval`: a predicted amount with its range, added and scaled piece by piece.

Ranges add end to end (low with low, high with high): the errors of one kernel's timing are the same on every site
that uses it, so treating them as independent would make the range of a sum too narrow.
"""

from typing import NamedTuple

from edgeprune.schema.base import Basis
from edgeprune.schema.estimate import Estimate

__all__ = ["ZERO", "Interval", "add", "as_estimate", "blend", "scale", "spread"]


class Interval(NamedTuple):
    """Value, low and high in one unit (bytes or seconds)."""

    value: float
    low: float
    high: float


ZERO = Interval(0.0, 0.0, 0.0)


def spread(value: float, below: float, above: float | None = None) -> Interval:
    """`value` with a range of `below` under it and `above` over it, both as fractions of the value."""
    above = below if above is None else above
    return Interval(value, value * (1.0 - below), value * (1.0 + above))


def add(first: Interval | None, second: Interval | None) -> Interval | None:
    """Sum; unknown as soon as one part is unknown."""
    if first is None or second is None:
        return None
    return Interval(first.value + second.value, first.low + second.low, first.high + second.high)


def scale(interval: Interval | None, factor: float) -> Interval | None:
    """`factor` (not negative) times an interval; unknown stays unknown unless none of it is asked for."""
    if factor == 0.0:
        return ZERO
    if interval is None:
        return None
    return Interval(interval.value * factor, interval.low * factor, interval.high * factor)


def blend(first: Interval | None, second: Interval | None, second_share: float) -> Interval | None:
    """(1 - share) of the first and share of the second; a part with no share need not be known."""
    return add(scale(first, 1.0 - second_share), scale(second, second_share))


def as_estimate(interval: Interval | None, *, basis: Basis = "estimated") -> Estimate:
    """The record of an interval; all fields None when unknown."""
    if interval is None:
        return Estimate(value=None, basis=basis)
    return Estimate(value=interval.value, low=interval.low, high=interval.high, basis=basis)
