"""What single thing to give up so that an infeasible budget can be met; each is really solved for.

    limit      one limit alone loosened to the least that helps, the others held
    context    a shorter context, halved until it helps
    cache      keys and values cached in 8 bits; what that loses is measured, not predicted
    blocks     dropping some number of blocks, at the loss that costs
    lock       one lock lifted

A concession is only offered after the conceded search found a recipe.
"""

import dataclasses
import math
from collections.abc import Iterator

from msgspec.structs import replace

from edgeprune.errors import DeviceError
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import Candidate, Concession, ConcessionKind
from edgeprune.search.allocate import Allocating, Allocation, Allocator
from edgeprune.search.branches import WORK_LIMIT
from edgeprune.search.candidates import allocated
from edgeprune.search.choose import Effort, choose, limits_of, variants
from edgeprune.search.loosen import loosened
from edgeprune.search.objective import objective_of
from edgeprune.search.other_cache import with_cache_of
from edgeprune.search.problem import Limits, Problem
from edgeprune.search.quantities import Quantity, limited, predicted_verdict
from edgeprune.search.space import Space
from edgeprune.search.spaces import Spaces
from edgeprune.shapes import with_kv_bits

__all__ = ["concessions", "nearest_allocation"]

NO_VIOLATION = 1e-9
"""Of a limit: it can be met."""
PROMISING = 1e-5
"""A bound on the violation, with what loss weighs beside it, that may be none."""
EFFORT = Effort(gap=1e-3, work_limit=WORK_LIMIT // 8)
"""What a concession loses is told to a tenth of a percent, and nobody waits for a proof of it."""
SHARE_WORK = WORK_LIMIT // 8
"""Partial allocations made for the nearest budget at one share of cached weights."""
NEAREST_WORK = WORK_LIMIT // 4
"""And at all of them."""
LEAST_WORK = WORK_LIMIT // 40
"""And at each in any case."""
LENGTH = frozenset({"memory", "device memory", "latency", "first token"})
"""What depends on the context."""
QUALITIES = frozenset({"loss", "general loss", "accuracy"})


def concessions(problem: Problem, space: Space, allocator: Allocator, spaces: Spaces) -> tuple[Concession, ...]:
    """Those that help, in the order of the table above."""
    found = [*_limits(problem, space, allocator)]
    dropped = {entry.recipe.drops.block_count for concession, entry in found if concession.kind == "limit"}
    blocks = _blocks(problem, space, allocator)
    # Where loosening the loss already drops as many blocks, it is the same concession.
    extra = [] if blocks is None or blocks[1].recipe.drops.block_count in dropped else [blocks[0]]
    return (
        *(concession for concession, _ in found),
        *_context(problem, spaces),
        *_cache(problem, space),
        *extra,
        *_locks(problem, spaces),
    )


def nearest_allocation(
    problem: Problem, allocator: Allocator, limits: Limits, names: frozenset[str]
) -> Allocation | None:
    """The allocation that violates the named limits least, the others held; None when they cannot be."""
    left = NEAREST_WORK
    is_timed = limits.latency_s is not None or limits.first_token_s is not None
    waiting = []
    best: Allocation | None = None
    for variant in variants(problem, limits, allocator) if is_timed else [limits]:
        tried = allocator.loosening(variant, names)
        if tried.bound > PROMISING:
            waiting.append(tried)
            continue
        best = _better(best, tried, SHARE_WORK)
        if best is not None and best.violation <= NO_VIOLATION:
            return best
    # Then the most promising share first: only what violates the limits less is of interest at the others.
    for tried in sorted(waiting, key=lambda each: each.bound):
        before = tried.work
        best = _better(best, tried, max(LEAST_WORK, min(left, SHARE_WORK)))
        left -= tried.work - before
    return best


def _better(best: Allocation | None, tried: Allocating, work_limit: int) -> Allocation | None:
    found = tried.finish(below=math.inf if best is None else best.objective, work_limit=work_limit).allocation
    return best if found is None else found


def _limits(problem: Problem, space: Space, allocator: Allocator) -> Iterator[tuple[Concession, Candidate]]:
    asked = limited(problem.budget)
    if len(asked) < 2:
        return  # with a single limit this is the nearest budget, which is told anyway
    limits = limits_of(problem, space, allocator)
    for quantity, _ in asked:
        nearest = nearest_allocation(problem, allocator, limits, frozenset({quantity.name}))
        if nearest is None:
            continue
        reached = allocated(problem, nearest, quantity.name, basis="nearest")
        budget = loosened(problem.budget, reached, only=frozenset({quantity.name}))
        solved = dataclasses.replace(problem, budget=budget)
        if budget == problem.budget:
            continue
        # What loses least of all that the others allow is what the search takes where loss alone is loosened.
        is_best = quantity.name == "loss" and objective_of(budget.objective, budget) == "loss"
        effort = dataclasses.replace(EFFORT, known=nearest)
        found = _within(solved, reached if is_best else choose(solved, space, allocator, effort=effort))
        if found is not None:
            yield _concession(solved, found, "limit", _moved(quantity, problem.budget, budget)), found


def _context(problem: Problem, spaces: Spaces) -> Iterator[Concession]:
    if problem.cost_model_at is None or not _depends_on_length(problem):
        return
    tokens = problem.context_tokens // 2
    while (cost_model := problem.cost_model_at(tokens)) is not None:
        solved = dataclasses.replace(problem, cost_model=cost_model, context_tokens=tokens)
        found = _solve_in(solved, spaces.of(solved))
        if found is not None:
            yield _concession(solved, found, "context", f"context {problem.context_tokens} -> {tokens}")
            return
        tokens //= 2


def _cache(problem: Problem, space: Space) -> Iterator[Concession]:
    if problem.spec.kv_bits == 8 or problem.quality_model.cache_loss(8) is None:
        return
    blocks = with_kv_bits(problem.spec.blocks, 8)
    solved = dataclasses.replace(problem, spec=replace(problem.spec, blocks=blocks))
    found = _solve_in(solved, with_cache_of(solved, space, problem))
    if found is not None:
        yield _concession(solved, found, "cache", "KV int8 (--kv-bits 8)")


def _depends_on_length(problem: Problem) -> bool:
    """Whether anything that is limited is less of with fewer tokens: on disk only learned positions are."""
    names = {quantity.name for quantity, _ in limited(problem.budget)}
    return bool(names & LENGTH) or (problem.spec.position_kind == "learned" and "disk" in names)


def _blocks(problem: Problem, space: Space, allocator: Allocator) -> tuple[Concession, Candidate] | None:
    names = {quantity.name for quantity, _ in limited(problem.budget)}
    if not names & QUALITIES:
        return None  # without a limit on quality the search has tried every scored set of blocks already
    free = dataclasses.replace(
        problem, budget=replace(problem.budget, max_loss=None, max_general_loss=None, min_accuracy=None)
    )
    best = _chosen(free, space, allocator, must_drop=True)
    if best is None:
        return None
    solved = dataclasses.replace(problem, budget=loosened(problem.budget, best, only=QUALITIES))
    count = best.recipe.drops.block_count
    if _within(solved, best) is None:
        return None
    return _concession(solved, best, "blocks", f"drop {count:g} block{'s' if count > 1 else ''}"), best


def _locks(problem: Problem, spaces: Spaces) -> Iterator[Concession]:
    for lock in problem.locks:
        solved = dataclasses.replace(problem, locks=tuple(other for other in problem.locks if other != lock))
        found = _solve_in(solved, spaces.of(solved))
        if found is not None:
            yield _concession(solved, found, "lock", f"without the lock {lock}")


def _solve_in(problem: Problem, space: Space) -> Candidate | None:
    allocator = Allocator(space, floor_bytes=problem.cost_model.floor_bytes)
    return _within(problem, _chosen(problem, space, allocator))


def _chosen(problem: Problem, space: Space, allocator: Allocator, *, must_drop: bool = False) -> Candidate | None:
    try:
        return choose(problem, space, allocator, must_drop=must_drop, effort=EFFORT)
    except DeviceError:
        return None  # only what is really found is offered


def _within(problem: Problem, found: Candidate | None) -> Candidate | None:
    """The candidate where it is within the limits as a whole too; single edits need not add up to that."""
    return None if found is None or predicted_verdict(found, problem.budget) == "not_met" else found


def _moved(quantity: Quantity, before: Budget, after: Budget) -> str:
    old, new = quantity.limit(before), quantity.limit(after)
    assert old is not None  # only limits that are set are moved
    assert new is not None
    reserve = before.reserve_bytes if quantity.name == "memory" else 0
    return f"{quantity.flag} {quantity.written(old + reserve)} -> {quantity.written(new + reserve)}"


def _concession(problem: Problem, found: Candidate, kind: ConcessionKind, what: str) -> Concession:
    count = found.recipe.drops.block_count
    dropped = f", {count:g} block{'s' if count > 1 else ''} dropped" if count and kind != "blocks" else ""
    return Concession(
        kind=kind,
        message=f"{what}: loss {found.relative_loss:+.1%}{dropped}",
        budget=problem.budget,
        context_tokens=problem.context_tokens,
        locks=problem.locks,
        kv_bits=problem.spec.kv_bits,
        relative_loss=found.relative_loss,
    )
