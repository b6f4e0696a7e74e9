"""Candidates: a recipe with its predicted cost, losses and accuracy."""

from edgeprune.errors import EdgePruneError
from edgeprune.schema.candidate import Candidate
from edgeprune.schema.kernel import FLOAT32
from edgeprune.schema.recipe import Recipe
from edgeprune.search.allocate import Allocation
from edgeprune.search.baselines import PLAIN_INT4, PLAIN_INT8, plain_recipe
from edgeprune.search.problem import Problem
from edgeprune.search.space import to_recipe

__all__ = ["allocated", "baselines", "candidate", "dense"]


def candidate(
    problem: Problem, recipe: Recipe, label: str, *, gap: float | None = None, basis: str = "exact"
) -> Candidate | None:
    """Price a recipe; None when one of its edits was never scored."""
    loss = problem.quality_model.loss_increase_nats(recipe)
    if loss is None:
        return None
    return Candidate(
        label=label,
        recipe=recipe,
        cost=problem.cost_model.cost(recipe),
        loss_increase_nats=loss,
        relative_loss=problem.quality_model.relative_loss(loss),
        general_relative_loss=_general(problem, recipe),
        accuracy=None if problem.accuracy_model is None else problem.accuracy_model.accuracy(loss),
        optimality_gap=gap,
        basis=basis,
    )


def _general(problem: Problem, recipe: Recipe) -> float | None:
    model = problem.general_model
    loss = None if model is None else model.loss_increase_nats(recipe)
    return None if model is None or loss is None else model.relative_loss(loss)


def allocated(problem: Problem, allocation: Allocation, label: str, *, basis: str) -> Candidate:
    """The candidate of a solver's answer."""
    recipe = to_recipe(problem, allocation.taken)
    found = candidate(problem, recipe, label, gap=allocation.gap, basis=basis)
    if found is None:
        raise EdgePruneError("The solver chose an edit that has no score; report this with the run's scores.json.")
    return found


def dense(problem: Problem) -> Candidate:
    """The model as it came, in float32."""
    recipe = plain_recipe(problem.spec, FLOAT32, context_tokens=problem.context_tokens, seed=problem.seed)
    found = candidate(problem, recipe, "dense", basis="plain")
    assert found is not None  # no edits, so nothing that needs a score
    return found


def baselines(problem: Problem) -> tuple[Candidate, ...]:
    """Plain int8 and plain int4, those that were scored."""
    found = []
    for label, kernel in (("int8", PLAIN_INT8), ("int4", PLAIN_INT4)):
        recipe = plain_recipe(problem.spec, kernel, context_tokens=problem.context_tokens, seed=problem.seed)
        entry = candidate(problem, recipe, label, basis="plain")
        if entry is not None:
            found.append(entry)
    return tuple(found)
