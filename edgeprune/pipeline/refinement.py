"""Build the best recipes, learn from what they really cost, solve again, until the answer stands still.

The loop knows neither files nor torch: it is handed how to solve, how to solve without a family of edits, and how to
measure. A round measures the solver's choice, variants of it that do without one family of edits each, and the
front's neighbours of its size, on a slice of the selection text. The last few evaluations go to the best recipes of
all rounds, on all of the selection text (successive halving), and the choice is the best of those that were measured
and break no limit. Results are a function of the inputs alone: finished evaluations are served from a store, and
which were in it changes nothing but the time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from edgeprune.pipeline.building import Building, Measured, Tools, as_measured, is_allowed, is_built, loss_of
from edgeprune.pipeline.evaluations import edits_hash
from edgeprune.pipeline.proposals import near_ties, proposals
from edgeprune.pipeline.settle import settle
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import Candidate, Infeasible, SearchResult
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.residuals import Residuals
from edgeprune.search.objective import measure, objective_of
from edgeprune.search.quantities import flags, limit_uses, predicted_verdict
from edgeprune.units import format_fraction

__all__ = ["Refined", "Tools", "refine"]

FINALISTS = 3
"""Evaluations kept for the best recipes on all of the selection text."""
FIRST_ROUND = 5
LATER_ROUND = 3
MAX_LINEARISATIONS = 3
"""Searches that follow the first, with the corrections taken near its answer."""
SETTLED = 0.05
"""The front stands still when none of its losses moves by more than this fraction, or by a thousandth of a nat."""
TIGHTENING = 0.995
"""Beyond the ratio by which a measured loss missed its limit."""


@dataclass(frozen=True, kw_only=True)
class Refined:
    """What came out."""

    result: SearchResult
    """`chosen` is None when no recipe that was built is within the budget."""
    residuals: Residuals


def refine(tools: Tools, *, limit: int) -> Refined:
    """Search, build and measure, and search again.

    Args:
        tools: how to.
        limit: evaluations at most; 0 takes the predictions as they are.
    """
    first = tools.solve(None, None, 1.0)
    if limit == 0:
        return Refined(result=first, residuals=tools.empty)
    state = Building(tools=tools, limit=limit)
    scale = 1.0
    result = first
    for_finals = min(FINALISTS, limit)
    while state.spent < limit - for_finals:
        size = LATER_ROUND if state.built else FIRST_ROUND
        pool = proposals(state, result, scale)[: min(size, limit - for_finals - state.spent)]
        if not pool:
            break
        state.measure(pool, is_full=False)
        scale = _tightened(state, result.chosen, first.budget, scale)
        assert state.residuals is not None  # something was measured
        before, result = result, _settled(tools, state.residuals, scale)
        if result.chosen is not None and is_built(state, result.chosen) and not _has_moved(before, result):
            break
    while state.spent < limit - for_finals:
        pool = near_ties(state, first.budget, scale)[: min(LATER_ROUND, limit - for_finals - state.spent)]
        if not pool:
            break
        state.measure(pool, is_full=False)
    return _finished(state, first, scale)


def _settled(tools: Tools, residuals: Residuals, scale: float) -> SearchResult:
    """Solve until the answer stays, then with the front."""
    region: Recipe | None = None
    if residuals.fit is not None and residuals.fit.interactions:
        _, region = settle(
            lambda near: tools.choose(residuals, near, scale, frozenset(), ()),
            lambda found: None if found is None else found.recipe,
            rounds=MAX_LINEARISATIONS,
        )
    return tools.solve(residuals, region, scale)


def _tightened(state: Building, candidate: Candidate | None, budget: Budget, scale: float) -> float:
    """The scale of the limits on loss, smaller where a recipe was predicted to hold them and measured not to."""
    built = None if candidate is None else state.built.get(edits_hash(candidate.recipe))
    if built is None or scale == math.inf:
        return scale
    done, scales = built.evaluation, [scale]
    corrected = state.tools.quality(state.residuals)
    predicted = corrected.loss_increase_nats(built.candidate.recipe)
    if budget.max_loss is not None and done.relative_loss > budget.max_loss and predicted is not None:
        expected = corrected.relative_loss(predicted)
        # Where what was learned already keeps the solver from it, nothing is to be tightened.
        if expected <= budget.max_loss * scale:
            scales.append(TIGHTENING * min(scale, expected / done.relative_loss))
    general = done.general_relative_loss
    if budget.max_general_loss is not None and general is not None and general > budget.max_general_loss:
        scales.append(TIGHTENING * scale * budget.max_general_loss / general)
    return min(scales)


def _finished(state: Building, first: SearchResult, scale: float) -> Refined:
    """The best recipes on all of the selection text, and the best of them."""
    budget = first.budget
    while state.spent < state.limit:
        confirmed = [entry for entry in state.built.values() if entry.is_full and is_allowed(entry, budget)]
        # Together, so that several processes measure them at once: which they are does not depend on each other.
        count = min(FINALISTS - len(confirmed), state.limit - state.spent)
        entries = _next_finalists(state, budget, scale)[:count] if count > 0 else []
        if not entries:
            break
        state.measure(entries, is_full=True)
        for entry in entries:
            scale = _tightened(state, entry, budget, scale)
    if state.residuals is None:
        return Refined(result=first, residuals=state.tools.empty)  # nothing to build: no recipe at all is within limits
    allowed = [entry for entry in state.built.values() if entry.is_full and is_allowed(entry, budget)]
    winner = min(allowed, key=lambda entry: _goal(as_measured(entry), budget), default=None)
    return Refined(result=_result(state, first, winner), residuals=state.residuals)


def _next_finalists(state: Building, budget: Budget, scale: float) -> list[Candidate]:
    """The recipes measured on a slice that are allowed, best first; else what the solver now holds best."""
    waiting = [entry for entry in state.built.values() if not entry.is_full and is_allowed(entry, budget)]
    if waiting:
        return [entry.candidate for entry in sorted(waiting, key=lambda entry: _goal(as_measured(entry), budget))]
    chosen = state.tools.choose(state.residuals, None, scale, frozenset(), ())
    if chosen is None and not state.built:
        chosen = state.tools.choose(state.residuals, None, math.inf, frozenset(), ())
    return [] if chosen is None or is_built(state, chosen) else [chosen]


def _result(state: Building, first: SearchResult, winner: Measured | None) -> SearchResult:
    """The last search with the measured choice in it."""
    tools, budget = state.tools, first.budget
    basis = f"best of {len(state.built)} recipes built" + (", shortly trained alike" if tools.recovers else "")
    region = None if winner is None else winner.candidate.recipe
    last = tools.solve(state.residuals, region, 1.0)
    corrected = tools.quality(state.residuals)
    entries = {key: _completed(entry, corrected, basis) for key, entry in state.built.items()}
    chosen = None if winner is None else replace(entries[edits_hash(winner.candidate.recipe)], label="recipe")
    pool = [entries.get(edits_hash(entry.recipe), entry) for entry in last.front if entry.label != "recipe"]
    pool += [entry for key, entry in entries.items() if state.built[key].is_full]
    front = _front(pool, keep=chosen)
    if chosen is None:
        return replace(
            last, budget=budget, front=front, chosen=None, predicted="not_met", infeasible=_why(state, budget)
        )
    judged = as_measured(state.built[edits_hash(chosen.recipe)])
    return replace(
        last,
        budget=budget,
        front=front,
        chosen=chosen,
        infeasible=None,
        predicted=predicted_verdict(judged, budget),
        uses=limit_uses(judged, budget),
    )


def _completed(entry: Measured, corrected: QualityModel, basis: str) -> Candidate:
    """The candidate with the corrected prediction, and what was measured beside it."""
    predicted = corrected.loss_increase_nats(entry.candidate.recipe)
    loss = entry.candidate.loss_increase_nats if predicted is None else predicted
    return replace(
        entry.candidate,
        label="built",
        loss_increase_nats=loss,
        relative_loss=corrected.relative_loss(loss),
        measured_loss_increase_nats=entry.evaluation.loss_increase_nats,
        measured_relative_loss=entry.evaluation.relative_loss,
        optimality_gap=None,
        basis=basis,
    )


def _front(pool: Sequence[Candidate], *, keep: Candidate | None) -> tuple[Candidate, ...]:
    """Those no other one beats in size and loss, measured losses where there are any; the choice in any case."""
    kept: list[Candidate] = []
    for entry in sorted(pool, key=lambda entry: (entry.cost.disk_bytes, loss_of(entry))):
        if not kept or loss_of(entry) < loss_of(kept[-1]):
            kept.append(entry)
    if keep is not None:
        others = [entry for entry in kept if edits_hash(entry.recipe) != edits_hash(keep.recipe)]
        kept = sorted([*others, keep], key=lambda entry: entry.cost.disk_bytes)
    return tuple(kept)


def _why(state: Building, budget: Budget) -> Infeasible:
    """Recipes were built, and none is within the limits on quality as measured."""
    if budget.max_loss is None or not state.built:
        return Infeasible(binding=("quality",), nearest=None, message="No recipe that was built is within the budget.")
    unlimited = replace(budget, max_loss=None)
    within = [entry for entry in state.built.values() if is_allowed(entry, unlimited)]
    if not within:
        return Infeasible(binding=("quality",), nearest=None, message="No recipe that was built is within the budget.")
    least = min(entry.evaluation.relative_loss for entry in within)
    nearest = replace(budget, max_loss=math.ceil(least * 1e4) / 1e4, origin="nearest")
    message = (
        f"the best of {len(state.built)} recipes built within the other limits was measured to lose "
        f"{format_fraction(least)}, more than --max-loss {format_fraction(budget.max_loss)}; the nearest feasible "
        f"budget is {flags(nearest)}."
    )
    return Infeasible(binding=("loss",), nearest=nearest, message=message)


def _has_moved(before: SearchResult, after: SearchResult) -> bool:
    """Whether the losses of the two fronts, compared at like sizes, differ by more than is of interest."""
    old = sorted((entry.cost.disk_bytes, entry.loss_increase_nats) for entry in before.front)
    for entry in after.front:
        near = min(old, key=lambda pair: abs(pair[0] - entry.cost.disk_bytes), default=None)
        if near is None or abs(near[0] / entry.cost.disk_bytes - 1.0) > SETTLED:
            continue
        if abs(near[1] - entry.loss_increase_nats) > max(1e-3, SETTLED * abs(entry.loss_increase_nats)):
            return True
    return False


def _goal(candidate: Candidate, budget: Budget) -> float:
    """What the search makes least."""
    return measure(candidate, objective_of(budget.objective, budget))
