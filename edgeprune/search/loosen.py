"""Budgets loosened to what a candidate needs, in figures that are short to write and really hold."""

import math

from msgspec.structs import replace

from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import Candidate
from edgeprune.search.quantities import Quantity, limited

__all__ = ["loosened", "needed", "round_up"]

MARGIN = 1.001
"""A tenth of a percent for the solver's tolerances."""


def loosened(budget: Budget, reached: Candidate, *, only: frozenset[str] | None = None) -> Budget:
    """The budget with every limit the candidate exceeds moved to what it needs, rounded to three digits.

    Limits written as percentages become absolute ones where they move.

    Args:
        budget: limits; not changed.
        reached: what must fit.
        only: names of the limits that may move; None moves any.
    """
    changes: dict[str, float | int | None] = {}
    for quantity, limit in limited(budget):
        value = needed(quantity, reached)
        if value is None or not quantity.is_exceeded(value, limit) or (only is not None and quantity.name not in only):
            continue
        if quantity.is_minimum:
            changes[quantity.field] = round_down(value)
        elif quantity.name == "memory":
            changes[quantity.field] = round(round_up(value + budget.reserve_bytes)) - budget.reserve_bytes
        else:
            rounded = round_up(value)
            changes[quantity.field] = round(rounded) if quantity.field.endswith("_bytes") else rounded
        percentage = quantity.field.removesuffix("_bytes").removesuffix("_s") + "_percent_of_dense"
        if percentage in budget.__struct_fields__:
            changes[percentage] = None
    return replace(budget, origin="nearest", **changes)


def needed(quantity: Quantity, reached: Candidate) -> float | None:
    """What the candidate needs of a quantity, at least; None when nothing tells."""
    cost = reached.cost
    if quantity.name == "memory" and cost.peak_rss_bytes.high is None:
        # Without a floor the solver compared model memory alone, so that is what the limit must allow at least.
        return cost.model_memory_bytes.high
    if quantity.name == "device memory":
        return cost.device_memory_bytes.low
    return quantity.predicted(reached)


def round_up(value: float) -> float:
    """Up to three significant digits, with the margin."""
    if value <= 0.0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return float(f"{math.ceil(value * MARGIN / unit) * unit:.6g}")


def round_down(value: float) -> float:
    """Down to a thousandth, for shares."""
    return math.floor(value * 1000.0) / 1000.0
