"""Predicted losses are sums of scored parts, and unknown where a part was never scored."""

import pytest
from msgspec.structs import replace

from edgeprune.predict.general import general_quality_model
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.recipe import KeepChannels, KeepGroups, KeepTokens, Recipe, SiteEdit
from edgeprune.schema.scores import CacheOption
from tests.unit.search.builders import KERNELS, make_scores, make_spec

SPEC = make_spec()
SCORES, ARRAYS = make_scores(SPEC, channel_counts=(64, 128), depth=[(1,)], vocabulary=[256, 384])
MODEL = QualityModel(SPEC, SCORES, ARRAYS)


def recipe(**fields: object) -> Recipe:
    return Recipe(model_hash=SPEC.model_hash, context_tokens=64, **fields)  # type: ignore[arg-type]


def test_the_dense_model_loses_nothing() -> None:
    assert MODEL.loss_increase_nats(recipe()) == 0.0


def test_a_recipe_loses_the_sum_of_its_edits() -> None:
    edit = SiteEdit(name="blocks.0.q", kernel="int4_b32_a4", rank=16)
    plain = SiteEdit(name="blocks.2.up", kernel="int8_b32_a4")
    found = MODEL.loss_increase_nats(
        recipe(
            drop_blocks=(1,),
            keep_tokens=KeepTokens(kept_count=256),
            keep_channels=(KeepChannels(block=2, kept_count=64),),
            table_kernel="int8_b32_a4",
            sites=(edit, plain),
        )
    )
    int4, int8 = KERNELS.index("int4_b32_a4"), KERNELS.index("int8_b32_a4")
    expected = (
        SCORES.depth[0].loss_increase_nats
        + SCORES.vocabulary[0].loss_increase_nats
        + ARRAYS["channel_loss/2"][0]
        + ARRAYS["kernel_loss/table"][int8]
        + ARRAYS["rank_loss/lowrank/blocks.0.q"][16]
        + 1.5 * ARRAYS["kernel_loss/blocks.0.q"][int4]
        + ARRAYS["kernel_loss/blocks.2.up"][int8]
    )
    assert found == pytest.approx(expected)


def test_relative_loss_is_of_the_dense_loss() -> None:
    assert MODEL.relative_loss(0.3) == pytest.approx(0.1)


def test_channels_between_the_scored_counts_are_interpolated_and_below_are_unknown() -> None:
    middle = MODEL.channel_loss(0, 96)
    assert middle == pytest.approx((ARRAYS["channel_loss/0"][0] + ARRAYS["channel_loss/0"][1]) / 2)
    assert MODEL.channel_loss(0, 176) == 0.0
    assert MODEL.channel_loss(0, 32) is None


def test_groups_are_a_family_of_their_own() -> None:
    spec = make_spec(heads=8, kv_heads=4, hidden=64)
    scores, arrays = make_scores(spec, group_counts=(1, 2))
    model = QualityModel(spec, scores, arrays)
    kept = recipe(keep_groups=(KeepGroups(block=0, kept_count=2), KeepGroups(block=2, kept_count=4)))
    assert model.loss_increase_nats(kept) == pytest.approx(arrays["group_loss/0"][1])
    assert model.group_loss(1, 3) == pytest.approx(arrays["group_loss/1"][1] / 2)
    sums = model.family_losses(kept)
    assert sums is not None
    assert [family for family, value in sums.items() if value] == ["groups"]
    assert MODEL.loss_increase_nats(recipe(keep_groups=(KeepGroups(block=0, kept_count=1),))) is None
    assert QualityModel(spec, scores, arrays, excluded=frozenset({"groups"})).group_loss(0, 2) is None


def test_an_edit_that_was_never_scored_makes_the_loss_unknown() -> None:
    assert MODEL.loss_increase_nats(recipe(drop_blocks=(0,))) is None
    assert MODEL.loss_increase_nats(recipe(table_kernel="int8_b64_a4")) is None


def test_the_method_that_loses_least_is_taken() -> None:
    assert MODEL.best_rank_method("blocks.0.q", 8) == (
        "lowrank",
        pytest.approx(ARRAYS["rank_loss/lowrank/blocks.0.q"][8]),
    )


def test_a_cache_of_fewer_bits_has_the_loss_that_was_measured_and_only_there() -> None:
    spec = make_spec(blocks=2)
    scores, arrays = make_scores(spec)
    unmeasured = QualityModel(spec, replace(scores, cache=None), arrays)
    assert unmeasured.cache_loss(8) is None
    assert unmeasured.loss_increase_nats(recipe(kv_bits=8)) is None
    option = CacheOption(kv_bits=8, loss_increase_nats=0.004)
    model = QualityModel(spec, replace(scores, cache=option), arrays)
    assert (model.cache_loss(8), model.cache_loss(32), model.cache_loss(4)) == (0.004, 0.0, None)
    edits = {"table_kernel": "int4_b32_a4"}
    with_cache, without = (model.loss_increase_nats(recipe(kv_bits=bits, **edits)) for bits in (8, 32))
    assert with_cache == pytest.approx(without + 0.004)


def test_on_general_text_the_cache_loses_what_it_lost_there() -> None:
    spec = make_spec(blocks=2)
    scores, arrays = make_scores(spec)
    there = {f"general/{key}": losses for key, losses in arrays.items()}
    general = (*scores.dense_losses, replace(scores.dense_losses[0], text="general.selection"))
    for lost in (None, 0.007):
        option = CacheOption(kv_bits=8, loss_increase_nats=0.004, general_loss_increase_nats=lost)
        measured = replace(scores, dense_losses=general, cache=option)
        model = general_quality_model(spec, measured, arrays | there)
        assert model is not None
        assert model.cache_loss(8) == lost
