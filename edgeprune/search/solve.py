"""`search`: the recipe that loses least within a budget, and the front around it.

Takes the dense shapes, the scores, a price model and a quality model; gives a `SearchResult`. All four limits hold at
once, at the upper end of each predicted range. With `--max-loss` alone the recipe of least peak memory is taken.

Time per token depends on how much of the weights stays in the last-level cache, which is not a sum over pieces. A
latency limit is therefore solved at five shares of cached weights, each with the working set held small enough to
really have that share: every answer is valid, and the best of them is within one step of the optimum.
"""

import dataclasses
import time
from collections.abc import Callable

from msgspec.structs import replace

from edgeprune.errors import UsageError
from edgeprune.schema.budget import Budget, Workload
from edgeprune.schema.candidate import Candidate, SearchResult
from edgeprune.schema.lock import Lock
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.scores import ScoreArrays, Scores
from edgeprune.search.allocate import Allocation, Allocator
from edgeprune.search.candidates import allocated, baselines, dense, predicted_verdict
from edgeprune.search.feasible import explain
from edgeprune.search.front import non_dominated, solve_front
from edgeprune.search.problem import CostModel, Limits, Problem, QualityModel
from edgeprune.search.space import Space, build_space

__all__ = ["search"]

CACHED_SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)


def search(
    spec: ModelSpec,
    scores: Scores,
    arrays: ScoreArrays,
    *,
    cost_model: CostModel,
    quality_model: QualityModel,
    budget: Budget,
    workload: Workload,
    device_name: str,
    seed: int,
    locks: tuple[Lock, ...] = (),
    clock: Callable[[], float] = time.perf_counter,
) -> SearchResult:
    """Solve for a budget; a budget nothing meets gives a result without a choice, with what binds.

    Raises:
        UsageError: the scores belong to another model.
        DeviceError: the solver stopped without an answer.
    """
    started = clock()
    _check(spec, scores, arrays)
    problem = Problem(
        spec=spec,
        scores=scores,
        cost_model=cost_model,
        quality_model=quality_model,
        budget=budget,
        context_tokens=workload.context_tokens,
        seed=seed,
        locks=locks,
    )
    space = build_space(problem)
    allocator = Allocator(space, floor_bytes=cost_model.floor_bytes, seed=seed)
    limits = _limits(problem, space)
    chosen = _choose(problem, space, allocator, limits)
    infeasible = None
    if chosen is None:
        infeasible = explain(problem, allocator, _variants(problem, limits), device_name=device_name)
    whole, beside = dense(problem), baselines(problem)
    basis = _basis(space)
    ladder = solve_front(
        allocator,
        largest_bytes=whole.cost.disk_bytes,
        to_candidate=lambda allocation, label: allocated(problem, allocation, label, basis=basis),
    )
    front = non_dominated([*([] if chosen is None else [chosen]), whole, *beside, *ladder])
    return SearchResult(
        budget=budget,
        context_tokens=workload.context_tokens,
        device_name=device_name,
        dense=whole,
        front=front,
        baselines=beside,
        chosen=chosen,
        infeasible=infeasible,
        predicted="not_met" if chosen is None else predicted_verdict(chosen, budget),
        solve_s=clock() - started,
        locks=locks,
    )


def _check(spec: ModelSpec, scores: Scores, arrays: ScoreArrays) -> None:
    if scores.model_hash != spec.model_hash:
        raise UsageError(
            f"The scores are of a model with hash {scores.model_hash[:12]}, this one has {spec.model_hash[:12]}; "
            "calibrate this model again."
        )
    missing = [site.name for block in spec.blocks for site in block.sites if f"kernel_loss/{site.name}" not in arrays]
    if missing:
        raise UsageError(f"The scores lack kernel_loss/{missing[0]}; calibrate this model again.")


def _limits(problem: Problem, space: Space) -> Limits:
    """The budget in the solver's units; what cannot be predicted cannot be limited, and is unmeasured later."""
    budget = problem.budget
    loss = None if budget.max_loss is None else budget.max_loss * problem.quality_model.dense_loss_nats
    return Limits(
        memory_bytes=budget.memory_bytes,
        latency_s=budget.latency_s if space.has_time else None,
        disk_bytes=budget.disk_bytes,
        loss_nats=loss,
    )


def _variants(problem: Problem, limits: Limits) -> list[Limits]:
    """The limits at each share of cached weights a device with a known cache can have."""
    if limits.latency_s is None:
        return [limits]
    found = []
    for share in CACHED_SHARES:
        size = problem.cost_model.working_set_limit(share)
        if size is None or size > 0.0:
            found.append(
                Limits(
                    memory_bytes=limits.memory_bytes,
                    latency_s=limits.latency_s,
                    disk_bytes=limits.disk_bytes,
                    loss_nats=limits.loss_nats,
                    cached_fraction=share,
                    working_set_bytes=size,
                )
            )
    return found


def _choose(problem: Problem, space: Space, allocator: Allocator, limits: Limits) -> Candidate | None:
    wants_memory = limits.loss_nats is not None and (limits.memory_bytes, limits.latency_s, limits.disk_bytes) == (
        None,
        None,
        None,
    )

    def answer(variant: Limits) -> Candidate | None:
        found: Allocation | None
        found = allocator.least_memory(variant) if wants_memory else allocator.least_loss(variant)
        basis = _basis(space, is_stepped=variant.working_set_bytes is not None)
        return None if found is None else allocated(problem, found, "recipe", basis=basis)

    if limits.latency_s is None:
        return answer(limits)
    # Where the best recipe without the latency limit is fast enough, it is the best one with it.
    free = answer(Limits(memory_bytes=limits.memory_bytes, disk_bytes=limits.disk_bytes, loss_nats=limits.loss_nats))
    if free is None:
        return None
    if predicted_verdict(free, replace(Budget(), latency_s=limits.latency_s)) == "met":
        return free
    best: Candidate | None = None
    for variant in _variants(problem, limits):
        # Only what beats the best so far is of interest: a share that cannot is refuted by its relaxation at once.
        bound = best.loss_increase_nats if best is not None else None
        entry = answer(variant if bound is None else dataclasses.replace(variant, loss_nats=bound))
        if entry is not None and (best is None or entry.loss_increase_nats < best.loss_increase_nats):
            best = entry
    return best


def _basis(space: Space, *, is_stepped: bool = False) -> str:
    """How far the proof reaches."""
    heuristics = []
    if space.is_restricted:
        heuristics.append("ladders of depth or channels thinned")
    if is_stepped:
        heuristics.append("share of cached weights in steps of a quarter")
    return "exact" if not heuristics else f"exact but for: {', '.join(heuristics)}"
