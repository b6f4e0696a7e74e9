"""The loop finds what is really best by building little, whatever the scores say at first.

The truth is a loss that is known here and differs from the scores: factors by family and a product of two families.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from edgeprune.pipeline.evaluations import edits_hash, with_measured
from edgeprune.pipeline.refinement import Refined, Tools, refine
from edgeprune.pipeline.solve import solve_request
from edgeprune.pipeline.variants import choose_without
from edgeprune.predict.cost import CostModel
from edgeprune.predict.general import general_quality_model
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import BudgetRequest, Limit
from edgeprune.schema.candidate import Candidate, SearchResult
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.residuals import Evaluation, Residuals
from edgeprune.schema.scores import GENERAL_PREFIX
from edgeprune.search.baselines import plain_recipe
from edgeprune.search.budget import resolve_budget
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload

SPEC = make_spec(blocks=2)
SCORES, ARRAYS = make_scores(
    SPEC, channel_counts=(64, 96, 128), depth=[(1,)], vocabulary=[256, 384],
    kernels=("fp32", "int8_b32_a4", "int4_b32_a4"),
)  # fmt: skip
WORKLOAD = make_workload(SPEC)
DEVICE = make_device()
# General text loses half as much as the domain by every edit, as scored.
ARRAYS |= {GENERAL_PREFIX + key: 0.5 * losses for key, losses in ARRAYS.items()}
SCORES = replace(
    SCORES,
    dense_losses=(*SCORES.dense_losses, replace(SCORES.dense_losses[0], text="general.selection")),
    depth=tuple(replace(one, general_loss_increase_nats=0.5 * one.loss_increase_nats) for one in SCORES.depth),
    vocabulary=tuple(
        replace(one, general_loss_increase_nats=0.5 * one.loss_increase_nats) for one in SCORES.vocabulary
    ),
)
PLAIN = QualityModel(SPEC, SCORES, ARRAYS)
DENSE_NATS = 3.0

Truth = Callable[[dict[str, float]], float]


def as_scored(sums: dict[str, float]) -> float:
    return sum(sums.values())


def blocks_are_cheap(sums: dict[str, float]) -> float:
    """Dropped blocks lose a third of what was scored, narrowed ones four times as much, and more beside int4."""
    factors = {"depth": 0.3, "channels": 4.0, "int4": 1.5}
    linear = sum(factors.get(family, 1.0) * value for family, value in sums.items())
    return linear + 3.0 * sums["channels"] * sums["int4"]


def everything_is_dear(sums: dict[str, float]) -> float:
    return 3.0 * sum(sums.values())


@dataclass
class Bench:
    """Builds on paper: the loss of a recipe is the truth of its family sums."""

    truth: Truth
    budget: BudgetRequest
    scatter: float = 0.0
    """Losses really lie this much to both sides of the truth, recipe by recipe."""
    built: list[tuple[str, bool]] = field(default_factory=list)

    def loss(self, recipe: Recipe) -> float:
        sums = PLAIN.family_losses(recipe)
        assert sums is not None
        share = int(edits_hash(recipe)[6:12], 16) / 0xFFFFFF
        return round(self.truth(sums) * (1.0 + self.scatter * (2.0 * share - 1.0)), 6)

    def measure(self, recipes: Sequence[Recipe], is_full: bool) -> list[Evaluation]:
        self.built += [(edits_hash(recipe), is_full) for recipe in recipes]
        return [
            Evaluation(
                key="k",
                recipe_hash=edits_hash(recipe),
                recipe=recipe,
                loss_increase_nats=self.loss(recipe),
                relative_loss=self.loss(recipe) / DENSE_NATS,
                # Really the general text loses as much as the domain does.
                general_loss_increase_nats=self.loss(recipe),
                general_relative_loss=self.loss(recipe) / DENSE_NATS,
                token_limit=2 if is_full else 1,
                scored_tokens=1,
            )
            for recipe in recipes
        ]

    def scaled(self, scale: float) -> BudgetRequest:
        if scale == float("inf"):
            return replace(self.budget, max_loss=None, max_general_loss=None)
        loss, general = self.budget.max_loss, self.budget.max_general_loss
        return replace(
            self.budget,
            max_loss=None if loss is None else loss * scale,
            max_general_loss=None if general is None else general * scale,
        )

    def solve(self, residuals: Residuals | None, region: Recipe | None, scale: float) -> SearchResult:
        return solve_request(
            self.scaled(scale), device=DEVICE, spec=SPEC, scores=SCORES, arrays=ARRAYS, workload=WORKLOAD, seed=0,
            residuals=residuals, region=region,
        )  # fmt: skip

    def choose(
        self,
        residuals: Residuals | None,
        region: Recipe | None,
        scale: float,
        families: frozenset[str],
        excluded: Sequence[Recipe],
    ) -> Candidate | None:
        cost_model = CostModel(DEVICE, SPEC, WORKLOAD)
        dense, int8 = (
            cost_model.cost(plain_recipe(SPEC, kernel, context_tokens=WORKLOAD.context_tokens, seed=0))
            for kernel in ("fp32", "int8_b32_a4")
        )
        floor = cost_model.floor_bytes
        budget = resolve_budget(self.scaled(scale), dense, int8, floor, source_bytes=SPEC.source_bytes)
        return choose_without(
            families, excluded=excluded, budget=budget, cost_model=cost_model, spec=SPEC, scores=SCORES,
            arrays=ARRAYS, workload=WORKLOAD, seed=0, residuals=residuals, region=region,
        )  # fmt: skip

    def fits(self, recipe: Recipe, refined: Refined) -> bool:
        allowed = refined.result.budget.disk_bytes
        return allowed is not None and CostModel(DEVICE, SPEC, WORKLOAD).cost(recipe).disk_bytes <= allowed

    def built_by(self, limit: int) -> list[tuple[str, bool]]:
        self.refine(limit)
        return self.built

    def refine(self, limit: int = 12) -> Refined:
        tools = Tools(
            solve=self.solve,
            choose=self.choose,
            quality=lambda residuals: QualityModel(SPEC, SCORES, ARRAYS, residuals),
            general=general_quality_model(SPEC, SCORES, ARRAYS),
            measure=self.measure,
            empty=Residuals(model_hash=SPEC.model_hash, scores_hash="s"),
        )
        return refine(tools, limit=limit)


def disk(fraction: float, **more: float) -> BudgetRequest:
    return BudgetRequest(disk=Limit(percent_of_dense=fraction), **more)  # type: ignore[arg-type]


def test_no_evaluations_take_the_predictions_as_they_are() -> None:
    bench = Bench(blocks_are_cheap, disk(0.3))
    refined = bench.refine(limit=0)
    assert refined.result.chosen == bench.solve(None, None, 1.0).chosen
    assert refined.residuals.evaluations == ()
    assert not bench.built


@pytest.mark.parametrize("fraction", [0.25, 0.35, 0.5])
def test_the_choice_is_better_than_the_one_from_scores_and_near_the_best_there_is(fraction: float) -> None:
    bench = Bench(blocks_are_cheap, disk(fraction))
    at_first = bench.solve(None, None, 1.0).chosen
    refined = bench.refine()
    chosen = refined.result.chosen
    assert at_first is not None
    assert chosen is not None
    assert bench.loss(chosen.recipe) <= bench.loss(at_first.recipe)
    assert chosen.measured_loss_increase_nats == bench.loss(chosen.recipe)
    # Who knows the truth: the same search with the true factors, built without any noise.
    knowing = Bench(blocks_are_cheap, disk(fraction)).refine(limit=60).result.chosen
    assert knowing is not None
    assert bench.loss(chosen.recipe) <= 1.1 * bench.loss(knowing.recipe)


def test_scores_that_are_right_need_few_evaluations() -> None:
    bench = Bench(as_scored, disk(0.3))
    refined = bench.refine()
    assert len(bench.built) < 12
    assert refined.result.chosen is not None
    first = bench.solve(None, None, 1.0).chosen
    assert first is not None
    assert refined.result.chosen.recipe == first.recipe
    assert refined.residuals.fit is not None
    assert refined.residuals.fit.median_relative_error == pytest.approx(0.0, abs=0.02)


def test_evaluations_that_are_left_go_to_recipes_that_may_be_better() -> None:
    bench = Bench(as_scored, disk(0.3), scatter=0.05)
    refined = bench.refine(limit=20)
    first, chosen = bench.solve(None, None, 1.0).chosen, refined.result.chosen
    assert first is not None
    assert chosen is not None
    # The scores are right but for a scatter that nothing predicts: what helps is to try more of those that are near.
    assert len(bench.built) > len(Bench(as_scored, disk(0.3)).built_by(20))
    assert bench.loss(chosen.recipe) < bench.loss(first.recipe)
    within = [entry for entry in refined.residuals.evaluations if bench.fits(entry.recipe, refined)]
    assert bench.loss(chosen.recipe) == min(entry.loss_increase_nats for entry in within)


@pytest.mark.parametrize("limit", [1, 2, 4, 12])
def test_no_more_are_built_than_allowed_and_none_twice_on_the_same_text(limit: int) -> None:
    bench = Bench(blocks_are_cheap, disk(0.3))
    refined = bench.refine(limit=limit)
    assert 0 < len(bench.built) <= limit
    assert len(set(bench.built)) == len(bench.built)
    chosen = refined.result.chosen
    assert chosen is not None
    # Whatever was built on a slice only is never the choice.
    assert (edits_hash(chosen.recipe), True) in bench.built
    assert len(refined.residuals.predicted_nats) == len(refined.residuals.evaluations)


def test_a_recipe_that_is_measured_to_break_the_loss_limit_is_not_taken() -> None:
    bench = Bench(everything_is_dear, BudgetRequest(max_loss=0.02))
    at_first = bench.solve(None, None, 1.0).chosen
    assert at_first is not None
    assert bench.loss(at_first.recipe) / DENSE_NATS > 0.02
    refined = bench.refine()
    chosen = refined.result.chosen
    assert chosen is not None
    assert chosen.measured_relative_loss is not None
    assert chosen.measured_relative_loss <= 0.02
    assert refined.result.predicted == "met"
    assert refined.result.budget.max_loss == 0.02
    # Nor is the limit left unused: a recipe that merely loses nothing is no answer.
    assert chosen.cost.disk_bytes < 0.8 * refined.result.dense.cost.disk_bytes


def test_a_limit_on_general_text_holds_as_measured_where_the_scores_were_too_low() -> None:
    bench = Bench(as_scored, BudgetRequest(max_general_loss=0.01))
    at_first = bench.solve(None, None, 1.0).chosen
    assert at_first is not None
    assert at_first.general_relative_loss is not None
    assert at_first.general_relative_loss <= 0.01 < bench.loss(at_first.recipe) / DENSE_NATS
    refined = bench.refine()
    assert refined.residuals.general_fit is not None
    chosen = refined.result.chosen
    assert chosen is not None
    assert 0.005 < bench.loss(chosen.recipe) / DENSE_NATS <= 0.01


def test_limits_that_no_built_recipe_holds_are_infeasible_with_the_nearest_that_is() -> None:
    bench = Bench(everything_is_dear, disk(0.3, max_loss=0.001))
    refined = bench.refine()
    assert refined.result.chosen is None
    why = refined.result.infeasible
    assert why is not None
    assert why.binding == ("loss",)
    assert why.nearest is not None
    assert why.nearest.max_loss is not None
    assert why.nearest.disk_bytes is not None
    cost = CostModel(DEVICE, SPEC, WORKLOAD).cost
    within = [
        entry for entry in refined.residuals.evaluations if cost(entry.recipe).disk_bytes <= why.nearest.disk_bytes
    ]
    least = min(entry.relative_loss for entry in within)
    assert why.nearest.max_loss == pytest.approx(least, abs=1e-4)
    assert "--max-loss" in why.message
    assert refined.result.predicted == "not_met"


def test_a_budget_nothing_can_hold_builds_nothing() -> None:
    bench = Bench(as_scored, BudgetRequest(disk=Limit(absolute=1000.0)))
    refined = bench.refine()
    assert refined.result.chosen is None
    assert refined.result.infeasible is not None
    assert not bench.built


def test_a_loss_limit_the_scores_hold_infeasible_may_be_met_when_built() -> None:
    def cheap(sums: dict[str, float]) -> float:
        return 0.2 * sum(sums.values())

    first = Bench(cheap, disk(0.3)).solve(None, None, 1.0).chosen
    assert first is not None
    bench = Bench(cheap, disk(0.3, max_loss=0.5 * first.relative_loss))
    assert bench.solve(None, None, 1.0).chosen is None
    refined = bench.refine()
    assert refined.result.chosen is not None
    assert refined.result.predicted == "met"
    assert refined.result.infeasible is None


def test_a_later_search_is_corrected_and_knows_what_was_built() -> None:
    bench = Bench(blocks_are_cheap, disk(0.35))
    residuals = bench.refine().residuals
    plain = bench.solve(None, None, 1.0)
    again = with_measured(bench.solve(residuals, None, 1.0), residuals)
    assert plain.chosen is not None
    assert again.chosen is not None
    # Corrected predictions are nearer to the truth, without anything being built.
    for entry in again.front:
        if 0.02 < bench.loss(entry.recipe) < 0.3:
            assert entry.loss_increase_nats == pytest.approx(bench.loss(entry.recipe), rel=0.25)
    built = {evaluation.recipe_hash for evaluation in residuals.evaluations}
    for entry in (again.chosen, *again.front):
        assert (entry.measured_loss_increase_nats is not None) == (edits_hash(entry.recipe) in built)
    assert with_measured(plain, None) == plain


def test_the_same_inputs_give_the_same_answer() -> None:
    first, second = (Bench(blocks_are_cheap, disk(0.3)).refine() for _ in range(2))
    assert replace(first.result, solve_s=None) == replace(second.result, solve_s=None)
    assert first.residuals == second.residuals


def test_the_front_holds_the_choice_and_falls_with_size() -> None:
    refined = Bench(blocks_are_cheap, disk(0.3)).refine()
    front = refined.result.front
    assert refined.result.chosen in front
    sizes = [entry.cost.disk_bytes for entry in front]
    assert sizes == sorted(sizes)
