"""Which recipes a refining search builds next: its choice, variants and neighbours of it, and then near-ties."""

import math

from msgspec.structs import replace

from edgeprune.pipeline.building import Building, is_allowed, is_built, loss_of
from edgeprune.pipeline.evaluations import edits_hash
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import Candidate, SearchResult
from edgeprune.search.objective import objective_of
from edgeprune.search.quantities import predicted_verdict

__all__ = ["near_ties", "proposals"]

LARGEST_RATIO = 4.0
"""Variants predicted to lose more than this many times the choice's loss are not worth building."""
TIES = 6
"""Next best recipes that are solved for at once."""
SPREAD = 2.0
"""Times the median error of recipes left out: few are farther off."""
UNKNOWN_ERROR = 0.1
"""Of a prediction, where too few recipes were built to tell."""
FAMILY_GROUPS = (
    ("depth",), ("channels",), ("groups",), ("lowrank", "laser"), ("vocabulary",), ("int4",), ("int8",), ("tables",)
)  # fmt: skip


def proposals(state: Building, result: SearchResult, scale: float) -> list[Candidate]:
    """Recipes worth building that were not: the choice, then variants and neighbours, least loss first.

    In the first round the plain integer recipes come right after the choice: nobody wants a recipe that is worse than
    one of them, and what they are measured to lose corrects the scores of their kernels.
    """
    chosen = result.chosen
    if chosen is None:
        # The limits on quality may only be predicted to be broken; what the other limits allow tells.
        scale = math.inf
        chosen = state.tools.choose(state.residuals, None, scale, frozenset(), ())
    if chosen is None:
        return []
    others = _neighbours(result, chosen)
    used = state.tools.quality(None).family_losses(chosen.recipe) or {}
    for group in FAMILY_GROUPS:
        if any(used.get(family, 0.0) != 0.0 for family in group):
            variant = state.tools.choose(state.residuals, chosen.recipe, scale, frozenset(group), ())
            others += [] if variant is None else [variant]
    bound = LARGEST_RATIO * max(chosen.loss_increase_nats, 1e-3)
    others = sorted((entry for entry in others if entry.loss_increase_nats <= bound), key=loss_of)
    fresh: dict[str, Candidate] = {}
    for entry in [chosen, *([] if state.built else _plain(result)), *others]:
        key = edits_hash(entry.recipe)
        if key not in state.built:
            fresh.setdefault(key, entry)
    return list(fresh.values())


def near_ties(state: Building, budget: Budget, scale: float) -> list[Candidate]:
    """Recipes that were not built, predicted to lose so little that one of them may be better than the best built."""
    allowed = [entry for entry in state.built.values() if is_allowed(entry, budget)]
    if not allowed or objective_of(budget.objective, budget) != "loss" or state.residuals is None:
        return []
    best = min(allowed, key=lambda entry: entry.evaluation.loss_increase_nats)
    fit = state.residuals.fit
    error = UNKNOWN_ERROR if fit is None or fit.median_relative_error is None else fit.median_relative_error
    bound = best.evaluation.loss_increase_nats / max(0.5, 1.0 - SPREAD * error)
    known = [entry.candidate.recipe for entry in state.built.values()]
    found: list[Candidate] = []
    for _ in range(TIES):
        entry = state.tools.choose(state.residuals, best.candidate.recipe, scale, frozenset(), known)
        if entry is None or entry.loss_increase_nats > bound:
            break
        known.append(entry.recipe)
        # Kernels that round weights alike make other recipes of the same weights.
        if not is_built(state, entry):
            found.append(entry)
    return sorted(found, key=loss_of)


def _plain(result: SearchResult) -> list[Candidate]:
    """Plain integer recipes that break no limit but, perhaps, one on quality; they know no locks."""
    if result.locks:
        return []
    budget = replace(result.budget, max_loss=None, max_general_loss=None, min_accuracy=None)
    plain = [entry for entry in result.baselines if entry.label in ("int8", "int4")]
    return [entry for entry in plain if predicted_verdict(entry, budget) != "not_met"]


def _neighbours(result: SearchResult, chosen: Candidate) -> list[Candidate]:
    """The next smaller and the next larger recipe of the front."""
    solved = [entry for entry in result.front if entry.label == "front"]
    smaller = [entry for entry in solved if entry.cost.disk_bytes < chosen.cost.disk_bytes]
    larger = [entry for entry in solved if entry.cost.disk_bytes > chosen.cost.disk_bytes]
    return [*smaller[-1:], *larger[:1]]
