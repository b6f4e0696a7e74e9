"""What a `SolverChild` and its process say to each other."""

import msgspec

from edgeprune.schema.budget import BudgetRequest
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.lock import Lock

__all__ = ["Answer", "Question"]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What to solve for; None keeps what the run was asked for."""

    ticket: int
    budget: BudgetRequest | None = None
    context_tokens: int | None = None
    locks: tuple[Lock, ...] | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A result, or a sentence and the name of the error it was raised as."""

    ticket: int
    """0: the run itself cannot be solved for, whatever is asked."""
    result: SearchResult | None = None
    error: str = ""
    message: str = ""
