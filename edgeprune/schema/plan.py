"""`PlanReport`: what would fit a device, answered from headers alone."""

from edgeprune.schema.base import SCHEMA_VERSION, Record, Verdict
from edgeprune.schema.budget import Budget
from edgeprune.schema.estimate import Cost

__all__ = ["PlanReport", "PlanRow"]


class PlanRow(Record, frozen=True, kw_only=True):
    """One model at one precision."""

    model: str
    precision: str
    """`fp32`, `int8` or `int4`."""
    parameter_count: int
    cost: Cost
    fits: Verdict
    """Whether every limit given is met as predicted; `unmeasured` when the profile cannot tell."""
    binding: tuple[str, ...] = ()
    """Limits it misses."""


class PlanReport(Record, frozen=True, kw_only=True):
    """All rows, in the order the models were given."""

    schema_version: int = SCHEMA_VERSION
    verdict: Verdict
    """`met` when some row fits."""
    device_name: str
    context_tokens: int
    budget: Budget
    rows: tuple[PlanRow, ...]
