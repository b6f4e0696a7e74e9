"""The quantities a budget may limit, one table: where the limit stands, what is predicted of it, how it is written.

A prediction is held to its limit at the upper end of its range; one that cannot be made is `unmeasured`, never `met`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from edgeprune.schema.base import Verdict
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import Candidate, LimitUse
from edgeprune.units import format_bytes, format_fraction, format_seconds

__all__ = ["QUANTITIES", "Quantity", "flags", "limit_uses", "limited", "predicted_verdict"]


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One thing a budget may limit."""

    name: str
    """As in verdicts: `first token`."""
    field: str
    """Of `Budget`."""
    solver_field: str
    """Of `Limits`."""
    flag: str
    predicted: Callable[[Candidate], float | None]
    """Upper end of the prediction (for accuracy the expectation); None when it cannot be made."""
    shown: Callable[[float | None], str]
    """For people."""
    written: Callable[[float], str]
    """As the flag is written."""
    is_minimum: bool = False

    def limit(self, budget: Budget) -> float | None:
        """None is not limited."""
        value = getattr(budget, self.field)
        return None if value is None else float(value)

    def is_exceeded(self, value: float, limit: float) -> bool:
        """A billionth of slack: limits and predictions reach equality through different sums."""
        slack = 1e-9 * abs(limit) + 1e-12
        return value < limit - slack if self.is_minimum else value > limit + slack


def _megabytes(value: float) -> str:
    return f"{value / 1e6:g}MB"


def _milliseconds(value: float) -> str:
    return f"{value * 1e3:g}ms"


QUANTITIES = (
    Quantity(
        name="memory",
        field="memory_bytes",
        solver_field="memory_bytes",
        flag="--memory",
        predicted=lambda entry: entry.cost.peak_rss_bytes.high,
        shown=format_bytes,
        written=_megabytes,
    ),
    Quantity(
        name="device memory",
        field="device_memory_bytes",
        solver_field="device_memory_bytes",
        flag="--device-memory",
        # Without an upper end only what is surely needed can be held against the limit: see `predicted_verdict`.
        predicted=lambda entry: entry.cost.device_memory_bytes.high,
        shown=format_bytes,
        written=_megabytes,
    ),
    Quantity(
        name="latency",
        field="latency_s",
        solver_field="latency_s",
        flag="--latency",
        predicted=lambda entry: entry.cost.decode_s.high,
        shown=format_seconds,
        written=_milliseconds,
    ),
    Quantity(
        name="first token",
        field="first_token_s",
        solver_field="first_token_s",
        flag="--first-token",
        predicted=lambda entry: entry.cost.prefill_s.high,
        shown=format_seconds,
        written=_milliseconds,
    ),
    Quantity(
        name="disk",
        field="disk_bytes",
        solver_field="disk_bytes",
        flag="--disk",
        predicted=lambda entry: float(entry.cost.disk_bytes),
        shown=format_bytes,
        written=_megabytes,
    ),
    Quantity(
        name="loss",
        field="max_loss",
        solver_field="loss_nats",
        flag="--max-loss",
        predicted=lambda entry: entry.relative_loss,
        shown=format_fraction,
        written=lambda value: f"{value:g}",
    ),
    Quantity(
        name="general loss",
        field="max_general_loss",
        solver_field="general_nats",
        flag="--max-general-loss",
        predicted=lambda entry: entry.general_relative_loss,
        shown=format_fraction,
        written=lambda value: f"{value:g}",
    ),
    Quantity(
        name="accuracy",
        field="min_accuracy",
        solver_field="accuracy_nats",
        flag="--min-accuracy",
        predicted=lambda entry: entry.accuracy,
        shown=format_fraction,
        written=lambda value: f"{value:g}",
        is_minimum=True,
    ),
)


def limited(budget: Budget) -> list[tuple[Quantity, float]]:
    """The quantities a budget limits, and their limits."""
    return [(quantity, limit) for quantity in QUANTITIES if (limit := quantity.limit(budget)) is not None]


def predicted_verdict(entry: Candidate, budget: Budget) -> Verdict:
    """Whether every limit is met at the upper end of its prediction; `unmeasured` when one cannot be predicted."""
    pairs = [(quantity, limit, quantity.predicted(entry)) for quantity, limit in limited(budget)]
    if any(value is not None and quantity.is_exceeded(value, limit) for quantity, limit, value in pairs):
        return "not_met"
    needed = entry.cost.device_memory_bytes.low
    if budget.device_memory_bytes is not None and needed is not None and needed > budget.device_memory_bytes:
        return "not_met"
    return "unmeasured" if any(value is None for _, _, value in pairs) else "met"


def limit_uses(entry: Candidate, budget: Budget) -> tuple[LimitUse, ...]:
    """How much of each limit a candidate is predicted to use."""
    return tuple(
        LimitUse(quantity=quantity.name, limit=limit, predicted=quantity.predicted(entry))
        for quantity, limit in limited(budget)
    )


def flags(budget: Budget) -> str:
    """A budget as command-line flags; the reserve is added back to the memory limit it was taken from."""
    parts = []
    for quantity, limit in limited(budget):
        whole = limit + budget.reserve_bytes if quantity.name == "memory" else limit
        parts.append(f"{quantity.flag} {quantity.written(whole)}")
    if budget.reserve_bytes:
        parts.append(f"--reserve {_megabytes(budget.reserve_bytes)}")
    if budget.objective != "loss":
        parts.append(f"--objective {budget.objective}")
    return " ".join(parts)
