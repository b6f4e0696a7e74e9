"""Which shapes optimum's ORTModelForCausalLM loads, and what `--uniform-kv` refuses before anything is done."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from edgeprune.errors import UsageError
from edgeprune.export.optimum import optimum_refusal, optimum_verdict
from edgeprune.pipeline.recipe_file import write_recipe_file
from edgeprune.pipeline.request import check_uniform_kv
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import KeepGroups, Recipe
from edgeprune.schema.run import RunRequest
from edgeprune.shapes import edit_shapes
from tests.unit.search.builders import make_spec

SPEC = replace(make_spec(blocks=3, heads=4, kv_heads=2), model_type="llama")
RECIPE = Recipe(model_hash=SPEC.model_hash, context_tokens=128)


def edited(recipe: Recipe, spec: ModelSpec = SPEC) -> str:
    return optimum_verdict(edit_shapes(spec, recipe), num_heads=4)


def test_one_head_count_loads() -> None:
    assert edited(RECIPE) == "loads"
    assert edited(replace(RECIPE, kv_bits=8)) == "loads"
    assert edited(replace(RECIPE, drop_blocks=(1,), drop_attention=(2,))) == "loads"
    same = tuple(KeepGroups(block=index, kept_count=1) for index in range(3))
    assert edited(replace(RECIPE, keep_groups=same)) == "loads"


def test_everything_else_says_why() -> None:
    one = replace(RECIPE, keep_groups=(KeepGroups(block=1, kept_count=1),))
    assert edited(one).startswith("refused (its blocks have 1 and 2 key-value heads")
    other = replace(SPEC, model_type="gpt2")
    assert "optimum takes the 4 query heads of a gpt2" in edited(RECIPE, other)
    wide = replace(SPEC, hidden_size=128)
    assert optimum_refusal(wide, num_heads=4) == "its head size is 16, optimum takes hidden / heads = 128 / 4 = 32"
    assert optimum_refusal(replace(wide, model_type="gemma"), num_heads=4) is None


def test_uniform_kv_is_refused_where_it_cannot_be_kept(tmp_path: Path) -> None:
    check_uniform_kv(RunRequest(uniform_kv=True), SPEC)
    check_uniform_kv(RunRequest(uniform_kv=True, kv_bits=8), SPEC)
    with pytest.raises(UsageError, match="head size is 16"):
        check_uniform_kv(RunRequest(uniform_kv=True), replace(SPEC, hidden_size=128))
    path = tmp_path / "recipe.toml"
    write_recipe_file(path, replace(RECIPE, keep_groups=(KeepGroups(block=1, kept_count=1),)))
    with pytest.raises(UsageError, match=r"recipe\.toml: its blocks have 1 and 2 key-value heads"):
        check_uniform_kv(RunRequest(uniform_kv=True, recipe=str(path)), SPEC)
    check_uniform_kv(RunRequest(recipe=str(path)), SPEC)
