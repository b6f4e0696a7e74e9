"""Build the best recipes, learn from what they really cost, solve again, until the answer stands still.

The loop knows neither files nor torch: it is handed how to solve, how to solve without a family of edits, and how to
measure. A round measures the solver's choice, variants of it that do without one family of edits each, and the
front's neighbours of its size, on a slice of the selection text. The last few evaluations go to the best recipes of
all rounds, on all of the selection text (successive halving), and the choice is the best of those that were measured
and break no limit. Results are a function of the inputs alone: finished evaluations are served from a store, and
which were in it changes nothing but the time.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from edgeprune.pipeline.evaluations import edits_hash
from edgeprune.predict.quality import QualityModel
from edgeprune.predict.residual import fit_surrogate
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import Candidate, Infeasible, SearchResult
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.residuals import Evaluation, ResidualFit, Residuals
from edgeprune.search.objective import measure, objective_of
from edgeprune.search.quantities import flags, limit_uses, predicted_verdict
from edgeprune.units import format_fraction

__all__ = ["Refined", "Tools", "refine"]

FINALISTS = 3
"""Evaluations kept for the best recipes on all of the selection text."""
FIRST_ROUND = 5
LATER_ROUND = 3
SETTLED = 0.05
"""The front stands still when none of its losses moves by more than this fraction, or by a thousandth of a nat."""
LEAST_ELSEWHERE = 3
"""Fewer losses on general text correct nothing."""
LARGEST_RATIO = 4.0
"""Variants predicted to lose more than this many times the choice's loss are not worth building."""
MAX_LINEARISATIONS = 4
TIGHTENING = 0.995
"""Beyond the ratio by which a measured loss missed its limit."""
FAMILY_GROUPS = (
    ("depth",), ("channels",), ("groups",), ("lowrank", "laser"), ("vocabulary",), ("int4",), ("int8",), ("tables",)
)  # fmt: skip

Without = frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What the loop works with.

    A scale multiplies the limits on loss; infinity takes every limit on quality away.
    """

    solve: Callable[[Residuals | None, Recipe | None, float], SearchResult]
    """Residuals, the region of their corrections, scale; with the front."""
    choose: Callable[[Residuals | None, Recipe | None, float, Without], Candidate | None]
    """The same without families of edits, and the best candidate alone."""
    quality: Callable[[Residuals | None], QualityModel]
    general: QualityModel | None
    """Losses on general text as they were scored; None where they were not."""
    measure: Callable[[Sequence[Recipe], bool], list[Evaluation]]
    """Evaluations of recipes, in their order; True measures on all of the selection text."""
    empty: Residuals
    """Without evaluations."""
    recovers: bool = False
    """Whether recipes measured on all of the selection text were trained before, all alike."""


@dataclass(frozen=True, kw_only=True)
class Refined:
    """What came out."""

    result: SearchResult
    """`chosen` is None when no recipe that was built is within the budget."""
    residuals: Residuals


@dataclass(kw_only=True)
class _Measured:
    """One recipe that was built."""

    candidate: Candidate
    evaluation: Evaluation
    predicted_nats: float
    """Before it was built."""
    is_full: bool
    untrained: Evaluation | None
    """What teaches the cost of edits: the same, or what was measured before a recovery; None where nothing was."""


@dataclass(kw_only=True)
class _State:
    tools: Tools
    limit: int
    spent: int = 0
    residuals: Residuals | None = None
    built: dict[str, _Measured] = field(default_factory=dict)
    """By hash of the edits, in the order they were built."""

    def measure(self, candidates: Sequence[Candidate], *, is_full: bool) -> None:
        """Build recipes and learn from them."""
        found = self.tools.measure([candidate.recipe for candidate in candidates], is_full)
        self.spent += len(candidates)
        for candidate, evaluation in zip(candidates, found, strict=True):
            key = edits_hash(candidate.recipe)
            before = self.built.get(key)
            predicted = candidate.loss_increase_nats if before is None else before.predicted_nats
            untrained: Evaluation | None = evaluation
            if is_full and self.tools.recovers:
                untrained = None if before is None else before.untrained
            self.built[key] = _Measured(
                candidate=candidate,
                evaluation=evaluation,
                predicted_nats=predicted,
                is_full=is_full,
                untrained=untrained,
            )
        self.residuals = self._learned()

    def _learned(self) -> Residuals:
        scored = self.tools.quality(None)
        done = [entry.untrained for entry in self.built.values() if entry.untrained is not None]
        fit: ResidualFit | None = None
        if done:
            sums = [scored.family_losses(evaluation.recipe) or {} for evaluation in done]
            _, fit = fit_surrogate(sums, [evaluation.loss_increase_nats for evaluation in done])
        predicted = tuple(round(entry.predicted_nats, 6) for entry in self.built.values())
        return replace(
            self.tools.empty,
            evaluations=tuple(entry.evaluation for entry in self.built.values()),
            predicted_nats=predicted,
            fit=fit,
            general_fit=self._learned_elsewhere(done),
        )

    def _learned_elsewhere(self, done: Sequence[Evaluation]) -> ResidualFit | None:
        scored = self.tools.general
        if scored is None:
            return None
        pairs = [
            (sums, evaluation.general_loss_increase_nats)
            for evaluation in done
            if evaluation.general_loss_increase_nats is not None
            and (sums := scored.family_losses(evaluation.recipe)) is not None
        ]
        if len(pairs) < LEAST_ELSEWHERE:
            return None
        _, fit = fit_surrogate([sums for sums, _ in pairs], [measured for _, measured in pairs])
        return fit


def refine(tools: Tools, *, limit: int) -> Refined:
    """Search, build and measure, and search again.

    Args:
        tools: how to.
        limit: evaluations at most; 0 takes the predictions as they are.
    """
    first = _settled(tools, None, 1.0)
    if limit == 0:
        return Refined(result=first, residuals=tools.empty)
    state = _State(tools=tools, limit=limit)
    scale = 1.0
    result = first
    for_finals = min(FINALISTS, limit)
    while state.spent < limit - for_finals:
        size = LATER_ROUND if state.built else FIRST_ROUND
        pool = _proposals(state, result, scale)[: min(size, limit - for_finals - state.spent)]
        if not pool:
            break
        state.measure(pool, is_full=False)
        scale = _tightened(state, result.chosen, first.budget, scale)
        before, result = result, _settled(tools, state.residuals, scale)
        if result.chosen is not None and _is_built(state, result.chosen) and not _has_moved(before, result):
            break
    return _finished(state, first, scale)


def _settled(tools: Tools, residuals: Residuals | None, scale: float) -> SearchResult:
    """Solve, take the corrections near the answer, and solve again until the answer stays; then the front."""
    region: Recipe | None = None
    if residuals is not None and residuals.fit is not None and residuals.fit.interactions:
        for _ in range(MAX_LINEARISATIONS):
            found = tools.choose(residuals, region, scale, frozenset())
            if found is None or (region is not None and edits_hash(found.recipe) == edits_hash(region)):
                break
            region = found.recipe
    return tools.solve(residuals, region, scale)


def _proposals(state: _State, result: SearchResult, scale: float) -> list[Candidate]:
    """Recipes worth building that were not: the choice, then variants and neighbours, least loss first."""
    chosen = result.chosen
    if chosen is None:
        # The limits on quality may only be predicted to be broken; what the other limits allow tells.
        scale = math.inf
        chosen = state.tools.choose(state.residuals, None, scale, frozenset())
    if chosen is None:
        return []
    others = _neighbours(result, chosen)
    used = state.tools.quality(None).family_losses(chosen.recipe) or {}
    for group in FAMILY_GROUPS:
        if any(used.get(family, 0.0) != 0.0 for family in group):
            variant = state.tools.choose(state.residuals, chosen.recipe, scale, frozenset(group))
            others += [] if variant is None else [variant]
    bound = LARGEST_RATIO * max(chosen.loss_increase_nats, 1e-3)
    others = sorted((entry for entry in others if entry.loss_increase_nats <= bound), key=_loss)
    fresh: dict[str, Candidate] = {}
    for entry in [chosen, *others]:
        key = edits_hash(entry.recipe)
        if key not in state.built:
            fresh.setdefault(key, entry)
    return list(fresh.values())


def _neighbours(result: SearchResult, chosen: Candidate) -> list[Candidate]:
    """The next smaller and the next larger recipe of the front."""
    solved = [entry for entry in result.front if entry.label == "front"]
    smaller = [entry for entry in solved if entry.cost.disk_bytes < chosen.cost.disk_bytes]
    larger = [entry for entry in solved if entry.cost.disk_bytes > chosen.cost.disk_bytes]
    return [*smaller[-1:], *larger[:1]]


def _tightened(state: _State, candidate: Candidate | None, budget: Budget, scale: float) -> float:
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


def _finished(state: _State, first: SearchResult, scale: float) -> Refined:
    """The best recipes on all of the selection text, and the best of them."""
    budget = first.budget
    wanted = FINALISTS
    while state.spent < state.limit:
        confirmed = [entry for entry in state.built.values() if entry.is_full and _is_allowed(entry, budget)]
        entry = _next_finalist(state, budget, scale) if len(confirmed) < wanted else None
        if entry is None:
            break
        state.measure([entry], is_full=True)
        scale = _tightened(state, entry, budget, scale)
    if state.residuals is None:
        return Refined(result=first, residuals=state.tools.empty)  # nothing to build: no recipe at all is within limits
    allowed = [entry for entry in state.built.values() if entry.is_full and _is_allowed(entry, budget)]
    winner = min(allowed, key=lambda entry: _goal(_as_measured(entry), budget), default=None)
    return Refined(result=_result(state, first, winner), residuals=state.residuals)


def _next_finalist(state: _State, budget: Budget, scale: float) -> Candidate | None:
    """The best recipe measured on a slice that is allowed, else what the solver now holds best."""
    waiting = [entry for entry in state.built.values() if not entry.is_full and _is_allowed(entry, budget)]
    if waiting:
        return min(waiting, key=lambda entry: _goal(_as_measured(entry), budget)).candidate
    chosen = state.tools.choose(state.residuals, None, scale, frozenset())
    if chosen is None and not state.built:
        chosen = state.tools.choose(state.residuals, None, math.inf, frozenset())
    return None if chosen is None or _is_built(state, chosen) else chosen


def _result(state: _State, first: SearchResult, winner: _Measured | None) -> SearchResult:
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
    judged = _as_measured(state.built[edits_hash(chosen.recipe)])
    return replace(
        last,
        budget=budget,
        front=front,
        chosen=chosen,
        infeasible=None,
        predicted=predicted_verdict(judged, budget),
        uses=limit_uses(judged, budget),
    )


def _completed(entry: _Measured, corrected: QualityModel, basis: str) -> Candidate:
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
    for entry in sorted(pool, key=lambda entry: (entry.cost.disk_bytes, _loss(entry))):
        if not kept or _loss(entry) < _loss(kept[-1]):
            kept.append(entry)
    if keep is not None:
        others = [entry for entry in kept if edits_hash(entry.recipe) != edits_hash(keep.recipe)]
        kept = sorted([*others, keep], key=lambda entry: entry.cost.disk_bytes)
    return tuple(kept)


def _why(state: _State, budget: Budget) -> Infeasible:
    """Recipes were built, and none is within the limits on quality as measured."""
    if budget.max_loss is None or not state.built:
        return Infeasible(binding=("quality",), nearest=None, message="No recipe that was built is within the budget.")
    unlimited = replace(budget, max_loss=None)
    within = [entry for entry in state.built.values() if _is_allowed(entry, unlimited)]
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


def _is_built(state: _State, candidate: Candidate) -> bool:
    return edits_hash(candidate.recipe) in state.built


def _is_allowed(entry: _Measured, budget: Budget) -> bool:
    """Whether nothing that was measured or is predicted breaks a limit."""
    return predicted_verdict(_as_measured(entry), budget) != "not_met"


def _as_measured(entry: _Measured) -> Candidate:
    """The candidate with measured quality in the place of what was predicted."""
    done = entry.evaluation
    general, accuracy = done.general_relative_loss, done.accuracy
    return replace(
        entry.candidate,
        loss_increase_nats=done.loss_increase_nats,
        relative_loss=done.relative_loss,
        general_relative_loss=entry.candidate.general_relative_loss if general is None else general,
        accuracy=entry.candidate.accuracy if accuracy is None else accuracy,
    )


def _goal(candidate: Candidate, budget: Budget) -> float:
    """What the search makes least."""
    return measure(candidate, objective_of(budget.objective, budget))


def _loss(candidate: Candidate) -> float:
    measured = candidate.measured_loss_increase_nats
    return candidate.loss_increase_nats if measured is None else measured
