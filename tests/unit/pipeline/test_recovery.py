"""With a recovery asked for, the last choice is among recipes trained alike; what edits cost is learned as before."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from edgeprune.errors import UsageError
from edgeprune.pipeline.evaluations import edits_hash
from edgeprune.pipeline.recipe_file import parse_recipe, recipe_toml
from edgeprune.pipeline.refinement import Refined, Tools, refine
from edgeprune.pipeline.request import check_recovery
from edgeprune.predict.general import general_quality_model
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.recovery import Recovery, RecoveryRequest
from edgeprune.schema.residuals import Evaluation, Residuals
from tests.unit.pipeline.test_refinement import ARRAYS, PLAIN, SCORES, SPEC, Bench, as_scored, disk


@dataclass
class Recovering(Bench):
    """Training makes good nine tenths of what dropped blocks cost, and a tenth of all else."""

    def trained(self, recipe: Recipe) -> float:
        sums = PLAIN.family_losses(recipe)
        assert sums is not None
        return round(sum((0.1 if family == "depth" else 0.9) * value for family, value in sums.items()), 6)

    def measure(self, recipes: Sequence[Recipe], is_full: bool) -> list[Evaluation]:
        found = super().measure(recipes, is_full)
        if not is_full:
            return found
        return [replace(entry, loss_increase_nats=self.trained(entry.recipe)) for entry in found]

    def refine(self, limit: int = 12) -> Refined:
        tools = Tools(
            solve=self.solve,
            choose=self.choose,
            quality=lambda residuals: QualityModel(SPEC, SCORES, ARRAYS, residuals),
            general=general_quality_model(SPEC, SCORES, ARRAYS),
            measure=self.measure,
            empty=Residuals(model_hash=SPEC.model_hash, scores_hash="s"),
            recovers=True,
        )
        return refine(tools, limit=limit)


@pytest.mark.slow
def test_the_choice_is_the_best_after_training_and_what_is_learned_is_of_untrained_recipes() -> None:
    bench = Recovering(as_scored, disk(0.3))
    refined = bench.refine()
    full = {key for key, is_full in bench.built if is_full}
    judged = [entry for entry in refined.residuals.evaluations if entry.recipe_hash in full]
    chosen = refined.result.chosen
    assert chosen is not None
    assert len(judged) >= 2
    assert bench.trained(chosen.recipe) == min(bench.trained(entry.recipe) for entry in judged)
    assert chosen.measured_loss_increase_nats == bench.trained(chosen.recipe)
    fit = refined.residuals.fit
    assert fit is not None
    # Untrained recipes lose exactly what was scored, so nothing is to be corrected.
    assert all(value == pytest.approx(1.0, abs=0.02) for value in fit.multipliers.values())
    assert edits_hash(chosen.recipe) in full


def test_a_recovery_is_written_into_the_recipe_and_read_back() -> None:
    recovery = Recovery(
        mode="auto", steps=120, block_steps=30, adapt_steps=9, precision="bfloat16", freezing="alternate"
    )
    recipe = Recipe(model_hash=SPEC.model_hash, context_tokens=64, recovery=recovery)
    assert parse_recipe(recipe_toml(recipe), SPEC, name="r.toml") == recipe
    assert "recovery =" not in recipe_toml(replace(recipe, recovery=None))


def test_a_recovery_without_steps_is_refused_with_its_line() -> None:
    text = recipe_toml(Recipe(model_hash=SPEC.model_hash, context_tokens=64, recovery=Recovery(steps=5)))
    text = text.replace("steps = 5", "steps = 0")
    line = 1 + [row.startswith("recovery =") for row in text.splitlines()].index(True)
    with pytest.raises(UsageError, match=rf"r\.toml:{line}: .*nothing is trained"):
        parse_recipe(text, SPEC, name="r.toml")


def test_recipes_that_differ_in_their_training_are_different() -> None:
    plain = Recipe(model_hash=SPEC.model_hash, context_tokens=64)
    first, second = (replace(plain, recovery=Recovery(steps=steps)) for steps in (5, 6))
    assert len({edits_hash(recipe) for recipe in (plain, first, second)}) == 3


def test_a_request_without_time_or_beside_a_recipe_is_refused() -> None:
    check_recovery(None, recipe="recipe.toml")
    check_recovery(RecoveryRequest(minutes=1.0))
    with pytest.raises(UsageError, match="more than 0"):
        check_recovery(RecoveryRequest(minutes=0.0))
    with pytest.raises(UsageError, match="--recipe"):
        check_recovery(RecoveryRequest(minutes=1.0), recipe="recipe.toml")
