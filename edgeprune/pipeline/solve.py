"""One search from the records it reads: plugs the price and the quality model into the solver.

Needs no weights and no torch, so a front door can solve again for another budget in well under a second.
"""

from msgspec.structs import replace

from edgeprune.pipeline.request import SMALLEST_CONTEXT
from edgeprune.pipeline.settings import BASELINES
from edgeprune.predict.accuracy import accuracy_model
from edgeprune.predict.cost import CostModel
from edgeprune.predict.general import general_quality_model
from edgeprune.predict.packed import saved_bytes
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import BudgetRequest, Workload
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.lock import Lock
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.residuals import Residuals
from edgeprune.schema.scores import ScoreArrays, Scores
from edgeprune.search.baselines import plain_recipe
from edgeprune.search.budget import resolve_budget
from edgeprune.search.solve import search
from edgeprune.shapes import edit_shapes

__all__ = ["solve_request"]


def solve_request(
    request: BudgetRequest,
    *,
    device: DeviceProfile,
    spec: ModelSpec,
    scores: Scores,
    arrays: ScoreArrays,
    workload: Workload,
    seed: int,
    locks: tuple[Lock, ...] = (),
    residuals: Residuals | None = None,
    region: Recipe | None = None,
) -> SearchResult:
    """Resolve the limits a user wrote on a device and solve for them.

    Args:
        request: the limits.
        device: what the prices are of.
        spec: the dense model, with the cache that whatever is found will have; percentages are of its float cache.
        scores: what calibration scored.
        arrays: beside the scores.
        workload: lengths and threads.
        seed: of the solver.
        locks: choices that are fixed.
        residuals: what building recipes taught; None takes the scores as they are.
        region: the recipe near which its corrections are taken; None is the mean of the recipes that were built.

    Raises:
        UsageError: a percentage of something the profile does not tell, or scores of another model.
    """
    cost_model = CostModel(device, spec, workload, scores=scores)
    shortest = max(SMALLEST_CONTEXT, workload.decode_tokens + 1)
    dense, int8 = (
        plain_recipe(spec, BASELINES[label], context_tokens=workload.context_tokens, seed=seed)
        for label in ("dense", "int8")
    )
    plain = cost_model.cost(int8)
    # A default budget is judged by the bundle that is written: of what its graph is smaller, so is the limit.
    plain = replace(plain, disk_bytes=plain.disk_bytes - saved_bytes(edit_shapes(spec, int8)))
    budget = resolve_budget(
        request,
        cost_model.cost(dense),
        plain,
        floor_bytes=None if device.floor is None else device.floor.peak_rss_bytes,
        source_bytes=spec.source_bytes,
    )
    return search(
        spec,
        scores,
        arrays,
        cost_model=cost_model,
        cost_model_at=lambda tokens: cost_model.at_context(tokens) if tokens >= shortest else None,
        quality_model=QualityModel(spec, scores, arrays, residuals, region=region),
        general_model=general_quality_model(spec, scores, arrays, residuals, region=region),
        accuracy_model=accuracy_model(residuals),
        budget=budget,
        workload=workload,
        device_name=device.name,
        seed=seed,
        locks=locks,
    )
