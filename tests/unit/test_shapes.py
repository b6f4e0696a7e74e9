"""Shapes after edits: the one function everybody trusts, on a model small enough to count by hand."""

import pytest
from msgspec.structs import replace

from edgeprune.errors import UsageError
from edgeprune.intake.spec import read_spec
from edgeprune.schema.model import SITE_FORMS, ModelSpec
from edgeprune.schema.recipe import KeepChannels, KeepGroups, KeepTokens, Recipe, SiteEdit
from edgeprune.shapes import break_even_rank, count_parameters, edit_shapes
from tests.tiny import write_tiny_llama


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return read_spec(write_tiny_llama(tmp_path_factory.mktemp("model") / "m"))


def recipe(spec: ModelSpec, **edits: object) -> Recipe:
    return Recipe(model_hash=spec.model_hash, context_tokens=64, **edits)  # type: ignore[arg-type]


def test_two_factors_pay_below_the_break_even_rank_only() -> None:
    assert break_even_rank(64, 64) == 31
    assert 31 * 128 < 64 * 64 <= 32 * 128


def test_the_pivot_form_pays_at_every_rank_below_full_and_nothing_else_changes(spec: ModelSpec) -> None:
    assert break_even_rank(64, 96, "pivot") == 63
    assert 63 * (64 + 96 - 63) < 64 * 96
    factors, pivot = (
        edit_shapes(spec, recipe(spec, sites=(SiteEdit(name="blocks.0.gate", rank=40, form=form),)))
        for form in SITE_FORMS
    )
    assert factors.parameter_count - pivot.parameter_count == 40 * 40
    assert spec.parameter_count - pivot.parameter_count == 64 * 96 - 40 * (64 + 96 - 40)


def test_dropping_a_block_removes_its_parameters_and_keeps_names(spec: ModelSpec) -> None:
    edited = edit_shapes(spec, recipe(spec, drop_blocks=(1,)))
    assert [block.index for block in edited.blocks] == [0, 2]
    assert edited.blocks[1].sites[0].name == "blocks.2.q"
    assert edited.parameter_count < spec.parameter_count


def test_tied_tables_count_once(spec: ModelSpec) -> None:
    fewer = edit_shapes(spec, recipe(spec, keep_tokens=KeepTokens(kept_count=spec.vocab_size - 100)))
    assert spec.is_tied
    assert spec.parameter_count - fewer.parameter_count == 100 * spec.hidden_size


def test_channels_narrow_gate_up_and_down(spec: ModelSpec) -> None:
    edited = edit_shapes(spec, recipe(spec, keep_channels=(KeepChannels(block=0, kept_count=32),)))
    sizes = {site.role: (site.in_features, site.out_features) for site in edited.blocks[0].sites}
    assert sizes["gate"] == sizes["up"] == (spec.hidden_size, 32)
    assert sizes["down"] == (32, spec.hidden_size)
    assert count_parameters(edited) == edited.parameter_count


def test_a_group_takes_its_query_heads_along(spec: ModelSpec) -> None:
    edited = edit_shapes(spec, recipe(spec, keep_groups=(KeepGroups(block=1, kept_count=1),)))
    block = edited.blocks[1]
    assert (block.num_heads, block.num_kv_heads) == (2, 1)
    sizes = {site.role: (site.in_features, site.out_features) for site in block.sites}
    assert (sizes["q"], sizes["k"], sizes["v"], sizes["o"]) == ((64, 32), (64, 16), (64, 16), (32, 64))
    assert edited.blocks[0] == spec.blocks[0]
    assert spec.parameter_count - edited.parameter_count == 2 * 64 * 32 + 2 * 64 * 16


def test_query_heads_that_do_not_divide_into_groups_are_refused(spec: ModelSpec) -> None:
    odd = replace(spec, blocks=tuple(replace(block, num_heads=5) for block in spec.blocks))
    with pytest.raises(UsageError, match="5 query heads do not divide into 2"):
        edit_shapes(odd, recipe(spec, keep_groups=(KeepGroups(block=1, kept_count=1),)))


def test_a_block_can_lose_either_part_alone(spec: ModelSpec) -> None:
    edited = edit_shapes(spec, recipe(spec, drop_attention=(0,), drop_mlp=(2,)))
    first, _, last = edited.blocks
    assert [site.role for site in first.sites] == ["gate", "up", "down"]
    assert [site.role for site in last.sites] == ["q", "k", "v", "o"]
    assert (first.num_kv_heads, last.intermediate_size) == (0, 0)
    assert [block.index for block in edited.attention_blocks] == [1, 2]
    # 64 wide: q and o 64 x 64, k and v 64 x 32; gate, up and down 64 x 96; one norm of 64 gains with each part.
    attention, mlp = 2 * 64 * 64 + 2 * 64 * 32 + 64, 3 * 64 * 96 + 64
    assert spec.parameter_count - edited.parameter_count == attention + mlp


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ({"drop_attention": (9,)}, "no block 9"),
        ({"drop_attention": (0, 1, 2)}, "no attention is left"),
        ({"drop_attention": (1,), "drop_mlp": (1,)}, "list it in drop_blocks"),
        ({"drop_attention": (1,), "drop_blocks": (1,)}, "in drop_blocks already"),
        ({"drop_mlp": (1,), "keep_channels": (KeepChannels(block=1, kept_count=8),)}, "drops this block's MLP"),
        ({"drop_attention": (0,), "sites": (SiteEdit(name="blocks.0.q"),)}, "drops the part"),
        ({"drop_blocks": (9,)}, "no block 9"),
        ({"drop_blocks": (0, 1, 2)}, "every block"),
        ({"keep_channels": (KeepChannels(block=0, kept_count=0),)}, "kept_count 0"),
        ({"keep_channels": (KeepChannels(block=1, kept_count=8),), "drop_blocks": (1,)}, "drops this block's MLP"),
        ({"keep_groups": (KeepGroups(block=0, kept_count=3),)}, "kept_count 3 must lie in 1..2"),
        ({"keep_groups": (KeepGroups(block=0, kept_count=0),)}, "drop_attention removes all"),
        ({"keep_groups": (KeepGroups(block=7, kept_count=1),)}, "no such block"),
        ({"keep_groups": (KeepGroups(block=0, kept_count=1),) * 2}, "listed twice"),
        ({"keep_groups": (KeepGroups(block=1, kept_count=1),), "drop_blocks": (1,)}, "drops this block's attention"),
        ({"keep_groups": (KeepGroups(block=1, kept_count=1),), "drop_attention": (1,)}, "drops this block's attention"),
        (
            {"keep_groups": (KeepGroups(block=0, kept_count=1),), "sites": (SiteEdit(name="blocks.0.o", rank=32),)},
            "not below the full rank 32",
        ),
        ({"keep_tokens": KeepTokens(kept_count=10**6)}, "kept_count 1000000"),
        ({"sites": (SiteEdit(name="blocks.0.z"),)}, "no such site"),
        ({"sites": (SiteEdit(name="blocks.0.q", rank=64),)}, "not below the full rank"),
        ({"sites": (SiteEdit(name="blocks.0.q", rank=0),)}, "at least 1"),
        ({"sites": (SiteEdit(name="blocks.0.q", kernel="int2"),)}, "Unknown kernel"),
        ({"table_kernel": "int2"}, "Unknown kernel"),
    ],
)
def test_recipes_that_do_not_fit_are_refused_with_the_entry(
    spec: ModelSpec, edits: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        edit_shapes(spec, recipe(spec, **edits))


def test_a_recipe_of_another_model_is_refused(spec: ModelSpec) -> None:
    with pytest.raises(UsageError, match="hash"):
        edit_shapes(spec, Recipe(model_hash="other", context_tokens=64))
