"""Repairs in `recipe.toml`: written, read back, and refused with their line."""

import pytest

from edgeprune.errors import UsageError
from edgeprune.pipeline.evaluations import edits_hash
from edgeprune.pipeline.recipe_file import parse_recipe, recipe_toml
from edgeprune.schema.recipe import Recipe, Repair
from tests.unit.search.builders import make_spec

SPEC = make_spec(blocks=5)
RECIPE = Recipe(
    model_hash=SPEC.model_hash,
    context_tokens=128,
    drop_blocks=(1, 3),
    repairs=(Repair(block=1, rank=8), Repair(block=3, rank=4)),
)


def test_repairs_come_back() -> None:
    assert parse_recipe(recipe_toml(RECIPE), SPEC, name="recipe.toml") == RECIPE


def test_a_repair_of_what_is_kept_is_refused_with_its_line() -> None:
    text = recipe_toml(RECIPE).replace("{ block = 3, rank = 4 }", "{ block = 2, rank = 4 }")
    line = text.splitlines().index("    { block = 2, rank = 4 },") + 1
    with pytest.raises(UsageError, match=rf"recipe.toml:{line}: .*runs begin in 1, 3"):
        parse_recipe(text, SPEC, name="recipe.toml")


def test_a_repaired_recipe_is_another_one_whatever_the_order_of_its_repairs() -> None:
    turned = Recipe(
        model_hash=SPEC.model_hash, context_tokens=128, drop_blocks=(3, 1), repairs=tuple(reversed(RECIPE.repairs))
    )
    bare = Recipe(model_hash=SPEC.model_hash, context_tokens=128, drop_blocks=(1, 3))
    assert edits_hash(turned) == edits_hash(RECIPE) != edits_hash(bare)
