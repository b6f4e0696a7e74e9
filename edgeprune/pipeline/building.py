"""What a refining search works with: how to solve and measure, and what was built and learned so far.

It knows neither files nor torch: it is handed how to solve, how to solve without a family of edits, and how to measure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from edgeprune.pipeline.evaluations import edits_hash
from edgeprune.predict.quality import QualityModel
from edgeprune.predict.residual import fit_surrogate
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import Candidate, SearchResult
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.residuals import Evaluation, ResidualFit, Residuals
from edgeprune.search.quantities import predicted_verdict

__all__ = ["Building", "Measured", "Tools", "Without", "as_measured", "is_allowed", "is_built", "loss_of"]

LEAST_ELSEWHERE = 3
"""Fewer losses on general text correct nothing."""

Without = frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What the loop works with.

    A scale multiplies the limits on loss; infinity takes every limit on quality away.
    """

    solve: Callable[[Residuals | None, Recipe | None, float], SearchResult]
    """Residuals, the region of their corrections, scale; with the front."""
    choose: Callable[[Residuals | None, Recipe | None, float, Without, Sequence[Recipe]], Candidate | None]
    """The same without families of edits and without some recipes, and the best candidate alone."""
    quality: Callable[[Residuals | None], QualityModel]
    general: QualityModel | None
    """Losses on general text as they were scored; None where they were not."""
    measure: Callable[[Sequence[Recipe], bool], list[Evaluation]]
    """Evaluations of recipes, in their order; True measures on all of the selection text."""
    empty: Residuals
    """Without evaluations."""
    recovers: bool = False
    """Whether recipes measured on all of the selection text were trained before, all alike."""


@dataclass(kw_only=True)
class Measured:
    """One recipe that was built."""

    candidate: Candidate
    evaluation: Evaluation
    predicted_nats: float
    """Before it was built."""
    is_full: bool
    untrained: Evaluation | None
    """What teaches the cost of edits: the same, or what was measured before a recovery; None where nothing was."""


@dataclass(kw_only=True)
class Building:
    """A search while it builds recipes, and what it learned from them."""

    tools: Tools
    limit: int
    spent: int = 0
    residuals: Residuals | None = None
    built: dict[str, Measured] = field(default_factory=dict)
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
            self.built[key] = Measured(
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


def is_built(state: Building, candidate: Candidate) -> bool:
    """Whether its edits were."""
    return edits_hash(candidate.recipe) in state.built


def is_allowed(entry: Measured, budget: Budget) -> bool:
    """Whether nothing that was measured or is predicted breaks a limit."""
    return predicted_verdict(as_measured(entry), budget) != "not_met"


def as_measured(entry: Measured) -> Candidate:
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


def loss_of(candidate: Candidate) -> float:
    """Measured where it was, else predicted."""
    measured = candidate.measured_loss_increase_nats
    return candidate.loss_increase_nats if measured is None else measured
