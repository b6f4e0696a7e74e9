"""The techniques that narrow blocks: sizes reached, widths by the published rules, refusals."""

from typing import get_args

import numpy as np
import pytest
import torch

from edgeprune.calibrate.channel_scores import channel_losses, channel_menu, channel_order, nested_errors
from edgeprune.calibrate.criteria import contextual, flap
from edgeprune.calibrate.criteria.inputs import Channels
from edgeprune.calibrate.group_criteria import output_channels
from edgeprune.compress.apply import compress_model
from edgeprune.compress.techniques.heads import group_parameter_count, threshold_groups
from edgeprune.compress.techniques.request import Request
from edgeprune.compress.techniques.table import technique_recipe
from edgeprune.compress.techniques.widths import (
    block_channels,
    channel_parameter_count,
    share_widths,
    threshold_widths,
)
from edgeprune.errors import UsageError
from edgeprune.schema.events import NullProgress
from edgeprune.schema.model import site_name
from edgeprune.schema.recipe import ChannelCriterion, KeepGroups, Recipe
from edgeprune.schema.scores import ScoreArrays, Scores, VocabularyOption
from edgeprune.shapes import count_parameters, edit_shapes
from tests.unit.compress.recipes import NO_SUMMARY, Tiny

TECHNIQUES = [criterion for criterion in get_args(ChannelCriterion) if criterion != "output"]


def _scores(tiny: Tiny) -> tuple[Scores, ScoreArrays]:
    loaded, stats = tiny
    arrays: ScoreArrays = {}
    menu = channel_menu(96)
    for block in (0, 1, 2):
        down = loaded.adapter.site(loaded.adapter.blocks(loaded.model)[block], "down")
        assert isinstance(down, torch.nn.Linear)
        order = channel_order(stats, block, down.weight, criterion="obs")
        weight = 0.5 * stats.output_weight[site_name(block, "down")]
        arrays[f"channel_loss/{block}"] = 3.0 * weight * channel_losses(stats, block, down.weight, order)[list(menu)]
    scores = Scores(
        model_hash=loaded.spec.model_hash,
        seed=0,
        calibration=NO_SUMMARY,
        dense_losses=(),
        kernels=("fp32",),
        rank_methods=("lowrank", "laser"),
        channel_counts=(menu,) * 3,
        vocabulary=(
            VocabularyOption(kept_count=300, loss_increase_nats=50.0, token_inflation=1.2),
            VocabularyOption(kept_count=448, loss_increase_nats=1e-9, token_inflation=1.01),
        ),
    )
    return scores, arrays


def _plan(tiny: Tiny, technique: str, kept: float, *, compensate: bool = True) -> Recipe:
    scores, arrays = _scores(tiny)
    return technique_recipe(
        tiny[0].spec,
        technique,
        kept,
        scores=scores,
        arrays=arrays,
        context_tokens=32,
        stats=tiny[1],
        loaded=tiny[0],
        compensate=compensate,
    )


def _request(tiny: Tiny, target: int = 0) -> Request:
    scores, arrays = _scores(tiny)
    empty = Recipe(model_hash=tiny[0].spec.model_hash, context_tokens=32)
    return Request(
        spec=tiny[0].spec, scores=scores, arrays=arrays, target=target, empty=empty, stats=tiny[1], loaded=tiny[0]
    )


@pytest.mark.parametrize("kept", [0.7, 0.9])
@pytest.mark.parametrize("technique", TECHNIQUES)
def test_the_kept_fraction_is_reached_and_built(tiny: Tiny, technique: str, kept: float) -> None:
    recipe = _plan(tiny, technique, kept)
    dense = count_parameters(tiny[0].spec)
    assert edit_shapes(tiny[0].spec, recipe).parameter_count / dense == pytest.approx(kept, abs=0.011)
    assert {entry.criterion for entry in recipe.keep_channels} == {technique}
    assert {entry.compensate for entry in recipe.keep_channels} == {technique != "wanda"}
    assert (recipe.keep_tokens is not None) == (technique == "contextual")
    assert not recipe.sites
    built = compress_model(tiny[0], recipe, tiny[1], progress=NullProgress())
    assert built.spec.parameter_count == edit_shapes(tiny[0].spec, recipe).parameter_count


def test_contextual_takes_the_vocabulary_that_costs_next_to_nothing(tiny: Tiny) -> None:
    recipe = _plan(tiny, "contextual", 0.8)
    assert recipe.keep_tokens is not None
    assert recipe.keep_tokens.kept_count == 448


def test_without_compensation_contextual_keeps_one_threshold_for_all_blocks(tiny: Tiny) -> None:
    recipe = _plan(tiny, "contextual", 0.75, compensate=False)
    kept = {entry.block: entry.kept_count for entry in recipe.keep_channels}
    scores = {block: contextual.scores(found) for block, found in block_channels(_request(tiny)).items()}
    lowest_kept, highest_left = np.inf, -np.inf
    for block, values in scores.items():
        ranked = values.sort(descending=True).values
        count = kept.get(block, len(ranked))
        lowest_kept = min(lowest_kept, float(ranked[count - 1]) if count > 1 else np.inf)
        highest_left = max(highest_left, float(ranked[count]) if count < len(ranked) else -np.inf)
    assert lowest_kept > highest_left
    assert not any(entry.compensate for entry in recipe.keep_channels)


def test_flap_compares_standardised_scores_over_blocks(tiny: Tiny) -> None:
    request = _request(tiny)
    channels = block_channels(request)
    scores = {block: flap.standardised(flap.scores(found)) for block, found in channels.items()}
    per_channel = sum(
        site.out_features if site.role == "down" else site.in_features + (1 if site.has_bias else 0)
        for site in tiny[0].spec.blocks[0].sites
        if site.role in ("gate", "up", "down")
    )
    widths = threshold_widths(request, scores, 150 * per_channel)
    assert sum(widths.values()) == 150
    every = torch.cat([scores[block] for block in sorted(scores)]).sort(descending=True).values
    for block, kept in widths.items():
        assert int((scores[block] > float(every[150])).sum()) == kept


def test_one_threshold_decides_on_heads_and_channels_by_what_they_hold(tiny_llama: Tiny) -> None:
    request = _request(tiny_llama)
    blocks = request.spec.blocks
    head, channel = group_parameter_count(blocks[0]), channel_parameter_count(blocks[0])
    groups = {block.index: torch.tensor([9.0, -9.0]) for block in blocks}
    channels = {block.index: torch.linspace(5.0, -5.0, block.intermediate_size) for block in blocks}
    assert {len(scores) for scores in groups.values()} == {blocks[0].num_kv_heads}
    best = len(blocks) * head
    # The heads that score most stay first, those that score least go first, channels stand between.
    assert set(threshold_groups(request, groups, channels, best).values()) == {1}
    every = best + channel * sum(block.intermediate_size for block in blocks)
    assert set(threshold_groups(request, groups, channels, every).values()) == {1}
    assert sum(threshold_groups(request, groups, channels, every + head).values()) == len(blocks) + 1
    assert set(threshold_groups(request, groups, channels, every + best).values()) == {2}
    assert set(threshold_groups(request, groups, channels, 0).values()) == {1}, "an attention without heads is none"


@pytest.mark.parametrize("technique", ["flap", "wanda"])
def test_heads_leave_too_and_are_built_as_published(tiny: Tiny, technique: str) -> None:
    recipe = _plan(tiny, technique, 0.6)
    assert recipe.keep_groups
    assert {entry.criterion for entry in recipe.keep_groups} == {technique}
    built = compress_model(tiny[0], recipe, tiny[1], progress=NullProgress())
    assert built.spec.parameter_count == edit_shapes(tiny[0].spec, recipe).parameter_count
    thinned = {entry.block: entry.kept_count for entry in recipe.keep_groups}
    for spec, dense in zip(built.spec.blocks, tiny[0].spec.blocks, strict=True):
        assert spec.num_kv_heads == thinned.get(spec.index, dense.num_kv_heads)
        output = next(site for site in spec.sites if site.role == "o")
        had_bias = next(site for site in dense.sites if site.role == "o").has_bias
        assert output.has_bias == (had_bias or (technique == "flap" and spec.index in thinned))


def test_flap_gives_o_the_mean_of_the_heads_that_left(tiny_llama: Tiny) -> None:
    loaded, stats = tiny_llama
    entry = KeepGroups(block=1, kept_count=1, criterion="flap")
    recipe = Recipe(model_hash=loaded.spec.model_hash, context_tokens=32, keep_groups=(entry,))
    built = compress_model(loaded, recipe, stats, progress=NullProgress())
    dense = loaded.adapter.site(loaded.adapter.blocks(loaded.model)[1], "o")
    found = loaded.adapter.site(loaded.adapter.blocks(built.model)[1], "o")
    columns = output_channels(stats, 1, dense.weight)
    fluctuation = flap.standardised(flap.scores(columns).square())
    half = len(fluctuation) // 2
    first_stays = bool(fluctuation[:half].mean() > fluctuation[half:].mean())
    kept, left = (slice(0, half), slice(half, None)) if first_stays else (slice(half, None), slice(0, half))
    assert torch.equal(found.weight, dense.weight[:, kept])
    mean = stats.mean["blocks.1.attention_output"][left]
    torch.testing.assert_close(found.bias.double(), dense.weight[:, left].double() @ mean, rtol=1e-5, atol=1e-7)


def test_wanda_keeps_the_same_share_everywhere(tiny: Tiny) -> None:
    recipe = _plan(tiny, "wanda", 0.8)
    assert len(recipe.keep_channels) == 3
    assert len({entry.kept_count for entry in recipe.keep_groups}) <= 1
    assert len({entry.kept_count for entry in recipe.keep_channels}) == 1
    assert set(share_widths(_request(tiny), 0).values()) == {1}


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_out_of_reach_and_without_statistics_is_refused(tiny_llama: Tiny, technique: str) -> None:
    with pytest.raises(UsageError, match=rf"{technique} alone cannot keep .* smallest model keeps \d"):
        _plan(tiny_llama, technique, 0.02)
    if technique != "wanda":
        scores, arrays = _scores(tiny_llama)
        with pytest.raises(UsageError, match=rf"{technique} needs the statistics.*--technique {technique}"):
            technique_recipe(tiny_llama[0].spec, technique, 0.8, scores=scores, arrays=arrays, context_tokens=32)


def test_errors_without_compensation_are_those_of_the_columns_that_leave() -> None:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(50, 6, generator=generator, dtype=torch.float64).abs()
    weight = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    channels = Channels(weight=weight, gram=hidden.T @ hidden / 50, mean=hidden.mean(0), has_bias=False)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    errors = nested_errors(channels, order, compensate=False)
    for kept in range(7):
        left = order[kept:]
        expected = float((hidden[:, left] @ weight[:, left].T).square().sum(1).mean()) if len(left) else 0.0
        assert float(errors[kept]) == pytest.approx(expected, abs=1e-12)
    assert bool((nested_errors(channels, order) <= errors * 1.001).all())
