"""The best recipe of a budget when a family of edits may not be used: what a search builds to learn from."""

from collections.abc import Sequence

from msgspec.structs import replace

from edgeprune.errors import UsageError
from edgeprune.predict.accuracy import accuracy_model
from edgeprune.predict.general import general_quality_model
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget, Workload
from edgeprune.schema.candidate import Candidate
from edgeprune.schema.lock import Lock
from edgeprune.schema.model import ModelSpec, SiteForm
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.residuals import Residuals
from edgeprune.schema.scores import ScoreArrays, Scores
from edgeprune.search.allocate import Allocator
from edgeprune.search.choose import choose
from edgeprune.search.problem import CostModel, Problem
from edgeprune.search.recipe_columns import columns_of
from edgeprune.search.space import build_space

__all__ = ["choose_without"]


def choose_without(
    families: frozenset[str],
    *,
    excluded: Sequence[Recipe] = (),
    budget: Budget,
    cost_model: CostModel,
    spec: ModelSpec,
    scores: Scores,
    arrays: ScoreArrays,
    workload: Workload,
    seed: int,
    locks: tuple[Lock, ...] = (),
    residuals: Residuals | None = None,
    region: Recipe | None = None,
    rank_step: int | None = None,
    rank_form: SiteForm | None = None,
) -> Candidate | None:
    """The best candidate within a budget, no edit of some families in it and not some recipes; None when there is none.

    Args:
        families: of `edgeprune.predict.residual.FAMILIES`.
        excluded: recipes that are no answer, such as those that were built.
        budget: resolved limits.
        cost_model: prices on the device.
        spec: the dense model.
        scores: what calibration scored.
        arrays: beside the scores.
        workload: lengths and threads.
        seed: of the solver.
        locks: choices that are fixed.
        residuals: what building recipes taught so far.
        region: the recipe near which its corrections are taken.
        rank_step: of the ranks on offer; None offers those that devices are quick on.
        rank_form: how ranks are stored; None offers both forms.
    """
    problem = Problem(
        spec=spec,
        scores=scores,
        cost_model=cost_model,
        quality_model=QualityModel(spec, scores, arrays, residuals, region=region, excluded=families),
        general_model=general_quality_model(spec, scores, arrays, residuals, region=region),
        accuracy_model=accuracy_model(residuals),
        budget=budget,
        context_tokens=workload.context_tokens,
        decode_tokens=workload.decode_tokens,
        seed=seed,
        locks=locks,
        rank_step=rank_step,
        rank_form=rank_form,
    )
    try:
        space = build_space(problem)
    except UsageError:
        return None  # a lock asks for just these edits
    allocator = Allocator(space, floor_bytes=cost_model.floor_bytes)
    known = tuple(columns for recipe in excluded if (columns := columns_of(space, recipe)) is not None)
    found = choose(problem, space, allocator, excluded=known)
    return None if found is None else replace(found, label="variant")
