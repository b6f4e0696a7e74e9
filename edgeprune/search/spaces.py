"""Spaces that were built, and the fronts in them, for problems that differ in the values of their limits alone.

Which columns a space has depends on what is limited, not on how much of it is allowed, and a front is looked at without
any limit: a slider that moves needs neither again. What is kept was made as it would be made anew, so that an answer
does not depend on what was asked before.
"""

from dataclasses import dataclass

from edgeprune.schema.candidate import Candidate
from edgeprune.search.allocate import Allocator
from edgeprune.search.candidates import allocated, dense
from edgeprune.search.choose import basis_of
from edgeprune.search.front import solve_front
from edgeprune.search.problem import Problem
from edgeprune.search.resources import compared
from edgeprune.search.space import Space, build_space

__all__ = ["Spaces"]

MOST = 8
"""Spaces that are kept; those not asked for longest go."""


@dataclass
class _Entry:
    problem: Problem
    """Held so that the identities in the key stay its models' own."""
    space: Space
    front: tuple[Candidate, ...] | None = None


class Spaces:
    """Spaces of one model on one device."""

    def __init__(self) -> None:
        """None is known yet."""
        self._entries: dict[tuple[object, ...], _Entry] = {}

    def of(self, problem: Problem) -> Space:
        """All choices of a problem that its locks leave.

        Raises:
            UsageError: a lock matches nothing, or locks leave nothing to choose for some block, site or table.
        """
        return self._entry(problem).space

    def front(self, problem: Problem) -> tuple[Candidate, ...]:
        """Least loss at each of a ladder of sizes, nothing else limited.

        Raises:
            DeviceError: the solver stopped without an answer.
        """
        entry = self._entry(problem)
        if entry.front is None:
            basis = basis_of(entry.space)
            # An allocator of its own: one that has solved for a budget begins from what it found there.
            found = solve_front(
                Allocator(entry.space, floor_bytes=problem.cost_model.floor_bytes),
                largest_bytes=dense(problem).cost.disk_bytes,
                to_candidate=lambda allocation, label: allocated(problem, allocation, label, basis=basis),
            )
            entry.front = tuple(found)
        return entry.front

    def _entry(self, problem: Problem) -> _Entry:
        key = _key(problem)
        entry = self._entries.pop(key, None) or _Entry(problem, build_space(problem))
        self._entries[key] = entry
        if len(self._entries) > MOST:
            del self._entries[next(iter(self._entries))]
        return entry


def _key(problem: Problem) -> tuple[object, ...]:
    """All of a problem that a space or a front in it depends on: everything but how much is allowed."""
    models = (
        problem.spec, problem.scores, problem.cost_model, problem.quality_model, problem.general_model,
        problem.accuracy_model,
    )  # fmt: skip
    return (
        *map(id, models),
        compared(problem.budget),
        problem.budget.max_general_loss is None,
        problem.context_tokens,
        problem.decode_tokens,
        problem.seed,
        problem.locks,
        problem.rank_step,
        problem.rank_form,
    )
