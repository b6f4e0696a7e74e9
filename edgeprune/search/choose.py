"""The best recipe within a problem's budget: the objective, and the shares of cached weights a time needs.

Time per token and per prompt depends on how much of the weights stays in the last-level cache, which is not a sum over
pieces. What is about time is therefore solved at five shares of cached weights, each with the working set held small
enough to really have that share: every answer is valid, and the best of them is within one step of the optimum.

Without a time limit or objective one solve is exact. Limits on quality alone ask for the least memory.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from edgeprune.schema.budget import Budget, Objective
from edgeprune.schema.candidate import Candidate
from edgeprune.search.allocate import RELATIVE_GAP, Allocating, Allocation, Allocator, Answer
from edgeprune.search.branches import ABSOLUTE_GAP, WORK_LIMIT
from edgeprune.search.candidates import allocated
from edgeprune.search.objective import TIMED, measure, objective_of
from edgeprune.search.problem import Limits, Problem
from edgeprune.search.quantities import predicted_verdict
from edgeprune.search.space import Space

__all__ = ["Effort", "basis_of", "choose", "limits_of", "unpredicted", "variants"]

CACHED_SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
REFINEMENTS = (1 / 8, 1 / 16)
"""Steps to both sides of the best share that are tried after those."""
LEAST_DIVISOR = 10
"""Of all that is allowed so much is done at each share, though those before it took it all."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How far a search goes."""

    gap: float = RELATIVE_GAP
    """Relative gap to prove."""
    work_limit: int = 3 * WORK_LIMIT // 4
    """Partial allocations made at all shares together: they are much alike, so what one cannot prove none can."""
    known: Allocation | None = None
    """Of the same space and perhaps within the limits, to start from."""


WHOLE = Effort()
"""Of what the user asked for."""


def limits_of(problem: Problem, space: Space, allocator: Allocator) -> Limits:
    """The budget in the solver's units; what cannot be predicted cannot be limited, and is unmeasured later."""
    budget, general = problem.budget, problem.general_model
    loss, elsewhere = budget.max_loss, budget.max_general_loss
    # What the cache loses is no choice's.
    cache = problem.quality_model.cache_loss(problem.spec.kv_bits) or 0.0
    there = 0.0 if general is None else general.cache_loss(problem.spec.kv_bits) or 0.0
    accuracy = _accuracy_nats(problem)
    return Limits(
        memory_bytes=budget.memory_bytes,
        device_memory_bytes=budget.device_memory_bytes,
        latency_s=budget.latency_s if space.has_time else None,
        first_token_s=budget.first_token_s if allocator.has_first_token else None,
        disk_bytes=budget.disk_bytes,
        loss_nats=None if loss is None else loss * problem.quality_model.dense_loss_nats - cache,
        general_nats=None if elsewhere is None or general is None else elsewhere * general.dense_loss_nats - there,
        accuracy_nats=None if accuracy is None else accuracy - cache,
    )


def unpredicted(problem: Problem, space: Space, allocator: Allocator) -> tuple[str, ...]:
    """One sentence for each limit the search cannot hold to."""
    budget, notes = problem.budget, []
    if budget.latency_s is not None and not space.has_time:
        notes.append("the device profile does not tell times, so the latency limit is only judged when it is measured")
    if budget.first_token_s is not None and not allocator.has_first_token:
        notes.append(
            "the device profile does not tell times of whole prompts, so the time to first token is only judged when "
            "it is measured"
        )
    if budget.max_general_loss is not None and problem.general_model is None:
        notes.append(
            "the scores hold no losses on general text, so that limit is only judged when it is measured; calibrate "
            "again to have it predicted"
        )
    if budget.min_accuracy is not None and problem.accuracy_model is None:
        notes.append(
            "accuracy cannot be predicted before recipes were built and asked, so it is only judged when it is measured"
        )
    if budget.device_memory_bytes is not None:
        notes.append(
            "of the accelerator's memory only what the tensors take is predicted; whether the limit is met shows when "
            "it is measured"
        )
    return tuple(notes)


def variants(
    problem: Problem, limits: Limits, allocator: Allocator, shares: Sequence[float] = CACHED_SHARES
) -> list[Limits]:
    """The limits at each share of cached weights that a recipe on this device may have.

    Where even the largest working set has some share, smaller ones are no recipe's.
    """
    least = problem.cost_model.cached_fraction(math.ceil(allocator.largest_working_set_bytes))
    tried = sorted({max(share, least) for share in shares if 0.0 <= share <= 1.0}, reverse=True)
    sizes = [(share, None if share <= least else problem.cost_model.working_set_limit(share)) for share in tried]
    return [
        dataclasses.replace(limits, cached_fraction=share, working_set_bytes=size)
        for share, size in sizes
        if size is None or size > 0.0
    ]


def choose(
    problem: Problem,
    space: Space,
    allocator: Allocator,
    *,
    must_drop: bool = False,
    excluded: tuple[tuple[int, ...], ...] = (),
    effort: Effort = WHOLE,
) -> Candidate | None:
    """The best candidate within the budget; None when nothing is within it.

    Args:
        problem: what to solve.
        space: its choices.
        allocator: the solver over them.
        must_drop: only recipes that drop some block or half of one, for the least loss.
        excluded: allocations, as columns of the space, that are no answer.
        effort: how far to go.

    Raises:
        DeviceError: the solver stopped without an answer.
    """
    limits = dataclasses.replace(limits_of(problem, space, allocator), excluded=excluded)
    objective = "loss" if must_drop else objective_of(problem.budget.objective, limits)
    return _over_shares(problem, space, allocator, limits, objective, must_drop=must_drop, effort=effort)


def _over_shares(
    problem: Problem,
    space: Space,
    allocator: Allocator,
    limits: Limits,
    objective: Objective,
    *,
    must_drop: bool,
    effort: Effort,
) -> Candidate | None:
    def started(variant: Limits) -> Allocating:
        return allocator.least(objective, variant, gap=effort.gap, must_drop=must_drop)

    def made(answer: Answer, *, is_stepped: bool = False) -> Candidate | None:
        found, basis = answer.allocation, basis_of(space, is_stepped=is_stepped)
        return None if found is None else allocated(problem, found, "recipe", basis=basis)

    timed = Budget(latency_s=limits.latency_s, first_token_s=limits.first_token_s)
    if objective not in TIMED:
        if timed == Budget():
            return made(started(limits).finish(known=effort.known, work_limit=effort.work_limit))
        # Where the best recipe without limits on time is fast enough, it is the best one with them.
        without = started(dataclasses.replace(limits, latency_s=None, first_token_s=None))
        free = made(without.finish(known=effort.known, work_limit=effort.work_limit))
        if free is None or predicted_verdict(free, timed) == "met":
            return free
    best: Candidate | None = None
    near: float | None = None
    known = bound = math.inf
    done: set[float] = set()
    left = effort.work_limit
    for step in (None, *REFINEMENTS):
        if step is not None and near is None:
            break
        shares = CACHED_SHARES if step is None or near is None else (near + step, near - step)
        found = variants(problem, limits, allocator, shares)
        # The most promising share first, and then only what beats the best: most are refuted by their relaxations.
        tried = [(variant, started(variant)) for variant in found if variant.cached_fraction not in done]
        done |= {variant.cached_fraction for variant in found}
        for variant, share in sorted(tried, key=lambda pair: pair[1].bound):
            started_at = share.work
            answer = share.finish(
                below=known, known=effort.known, work_limit=max(left, effort.work_limit // LEAST_DIVISOR)
            )
            left -= share.work - started_at
            entry = made(answer, is_stepped=len(done) > 1)
            bound = min(bound, answer.bound)
            if answer.allocation is not None and entry is not None:
                known = answer.allocation.objective
                if best is None or measure(entry, objective) < measure(best, objective):
                    best, near = entry, variant.cached_fraction
    if best is None:
        return None
    # What was refuted at one share counts for the gap at another: the answer is the best of all of them.
    gap = max(0.0, known - bound) / max(abs(known), ABSOLUTE_GAP)
    return replace(best, optimality_gap=gap)


def basis_of(space: Space, *, is_stepped: bool = False) -> str:
    """How far the proof reaches."""
    heuristics = []
    if space.is_restricted:
        heuristics.append("ladders of depth or channels thinned")
    if is_stepped:
        heuristics.append("share of cached weights in steps of a sixteenth near the best")
    return "exact" if not heuristics else f"exact but for: {', '.join(heuristics)}"


def _accuracy_nats(problem: Problem) -> float | None:
    wanted, model = problem.budget.min_accuracy, problem.accuracy_model
    if wanted is None or model is None:
        return None
    largest = model.largest_loss(wanted)
    # No recipe that was measured answers enough: a loss nothing has, so that the answer is "infeasible".
    return -1.0 if largest is None else largest
