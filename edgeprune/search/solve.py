"""`search`: the recipe that loses least within a budget, and the front around it.

Takes the dense shapes, the scores, a price model and quality models; gives a `SearchResult`. All limits hold at once,
at the upper end of each predicted range; a limit whose quantity cannot be predicted is named in `SearchResult.notes`
and judged when it is measured. A budget nothing meets is answered with what binds and what would buy feasibility.
"""

import time
from collections.abc import Callable

from edgeprune.errors import UsageError
from edgeprune.schema.budget import Budget, Workload
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.lock import Lock
from edgeprune.schema.model import ModelSpec, SiteForm
from edgeprune.schema.scores import ScoreArrays, Scores
from edgeprune.search.allocate import Allocator
from edgeprune.search.candidates import baselines, dense
from edgeprune.search.choose import choose, unpredicted
from edgeprune.search.feasible import explain
from edgeprune.search.front import non_dominated
from edgeprune.search.problem import AccuracyModel, CostModel, Problem, QualityModel
from edgeprune.search.quantities import limit_uses, predicted_verdict
from edgeprune.search.spaces import Spaces

__all__ = ["search"]


def search(
    spec: ModelSpec,
    scores: Scores,
    arrays: ScoreArrays,
    *,
    cost_model: CostModel,
    quality_model: QualityModel,
    general_model: QualityModel | None = None,
    accuracy_model: AccuracyModel | None = None,
    cost_model_at: Callable[[int], CostModel | None] | None = None,
    budget: Budget,
    workload: Workload,
    device_name: str,
    seed: int,
    locks: tuple[Lock, ...] = (),
    rank_step: int | None = None,
    rank_form: SiteForm | None = None,
    spaces: Spaces | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> SearchResult:
    """Solve for a budget; a budget nothing meets gives a result without a choice, with what binds.

    `spaces` are those of earlier searches with the same models, which are not built again.

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
        general_model=general_model,
        accuracy_model=accuracy_model,
        cost_model_at=cost_model_at,
        budget=budget,
        context_tokens=workload.context_tokens,
        decode_tokens=workload.decode_tokens,
        seed=seed,
        locks=locks,
        rank_step=rank_step,
        rank_form=rank_form,
    )
    spaces = spaces or Spaces()
    space = spaces.of(problem)
    allocator = Allocator(space, floor_bytes=cost_model.floor_bytes)
    chosen = choose(problem, space, allocator)
    infeasible = None
    if chosen is None:
        infeasible = explain(problem, space, allocator, spaces, device_name=device_name)
    whole, beside = dense(problem), baselines(problem)
    front = non_dominated([*([] if chosen is None else [chosen]), whole, *beside, *spaces.front(problem)])
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
        uses=() if chosen is None else limit_uses(chosen, budget),
        notes=unpredicted(problem, space, allocator),
        solve_s=clock() - started,
        locks=locks,
    )


def _check(spec: ModelSpec, scores: Scores, arrays: ScoreArrays) -> None:
    if scores.model_hash != spec.model_hash:
        raise UsageError(
            f"The scores are of a model with hash {scores.model_hash[:12]}, this one has {spec.model_hash[:12]}; "
            "calibrate this model again."
        )
    if spec.kv_bits == 8 and scores.cache is None:
        raise UsageError(
            "The scores lack the loss of an 8-bit cache: they are older than that, or the model's attention cannot be "
            "watched; calibrate again, or leave --kv-bits 8 out."
        )
    missing = [site.name for block in spec.blocks for site in block.sites if f"kernel_loss/{site.name}" not in arrays]
    if missing:
        raise UsageError(f"The scores lack kernel_loss/{missing[0]}; calibrate this model again.")
