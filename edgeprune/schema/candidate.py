"""`SearchResult`: the front the solver found, the choice, or why nothing fits."""

from typing import Literal

from edgeprune.schema.base import SCHEMA_VERSION, Record, Verdict
from edgeprune.schema.budget import Budget
from edgeprune.schema.estimate import Cost
from edgeprune.schema.lock import Lock
from edgeprune.schema.recipe import Recipe

__all__ = ["Candidate", "Concession", "ConcessionKind", "Infeasible", "LimitUse", "SearchResult"]

ConcessionKind = Literal["limit", "context", "cache", "blocks", "lock"]
"""What is given up: how far a limit reaches, the context's length, the cache's 32 bits, blocks, or a lock."""


class Candidate(Record, frozen=True, kw_only=True):
    """One recipe with its predicted cost and loss."""

    label: str
    recipe: Recipe
    cost: Cost
    loss_increase_nats: float
    """Predicted, on the domain's selection text, per token of the dense tokenizer."""
    relative_loss: float
    """Predicted bits-per-byte / the dense model's, minus one."""
    general_relative_loss: float | None = None
    """The same on general text; None where the scores do not tell."""
    accuracy: float | None = None
    """Predicted share of right answers; None where no built recipe tells."""
    measured_loss_increase_nats: float | None = None
    """Measured on selection text by building the recipe; None where it was not built."""
    measured_relative_loss: float | None = None
    """The same as a rise of bits-per-byte."""
    optimality_gap: float | None = None
    """Relative gap proved by the solver; None for candidates that were not solved for."""
    basis: str = "exact"
    """`exact` when the solver proved it over the scored options, otherwise what was heuristic."""


class LimitUse(Record, frozen=True, kw_only=True):
    """How much of one limit a candidate is predicted to use."""

    quantity: str
    """As in `Check.quantity`."""
    limit: float
    predicted: float | None
    """Upper end of the prediction, in the limit's unit; None when it cannot be predicted."""


class Concession(Record, frozen=True, kw_only=True):
    """One thing to give up that makes an infeasible budget feasible; it was really solved for."""

    kind: ConcessionKind
    message: str
    """One line, such as `context 512 -> 256: loss +1.3 %`."""
    budget: Budget
    context_tokens: int
    locks: tuple[Lock, ...] = ()
    """The locks that stay."""
    kv_bits: int = 32
    """Bits of a cached key or value."""
    relative_loss: float
    """Predicted for the recipe that was found."""


class Infeasible(Record, frozen=True, kw_only=True):
    """Why no candidate meets the budget."""

    binding: tuple[str, ...]
    """Limits that cannot be met, such as `memory`."""
    nearest: Budget | None
    """The smallest loosening of those limits that can be met; None when nothing can."""
    message: str
    concessions: tuple[Concession, ...] = ()
    """What buys feasibility, each alone."""


class SearchResult(Record, frozen=True, kw_only=True):
    """Outcome of one search."""

    schema_version: int = SCHEMA_VERSION
    budget: Budget
    context_tokens: int
    device_name: str
    dense: Candidate
    front: tuple[Candidate, ...]
    """Candidates no other one beats in size and loss, smallest first."""
    baselines: tuple[Candidate, ...] = ()
    """Plain int8 and plain int4, priced beside; without those that were not scored."""
    chosen: Candidate | None
    infeasible: Infeasible | None = None
    predicted: Verdict
    uses: tuple[LimitUse, ...] = ()
    """How much of each limit the choice uses, as predicted; empty without a choice."""
    notes: tuple[str, ...] = ()
    """What the search could not hold to, one sentence each."""
    solve_s: float | None = None
    locks: tuple[Lock, ...] = ()
    """What the user had fixed; every candidate but `dense` and the baselines respects it."""
