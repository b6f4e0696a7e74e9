"""Costs: pieces add up, bytes are what is stored, and what a profile does not tell stays unknown."""

import random

import pytest
from msgspec.structs import replace

from edgeprune.predict.cost import CostModel
from edgeprune.predict.price import Price
from edgeprune.schema.budget import Workload
from edgeprune.schema.device import BandwidthPoint
from edgeprune.schema.kernel import stored_bytes
from edgeprune.schema.model import SITE_FORMS, ModelSpec
from edgeprune.schema.recipe import KeepChannels, KeepGroups, KeepTokens, Recipe, SiteEdit
from edgeprune.shapes import attention_only, count_parameters, edit_shapes, mlp_only, with_groups
from tests.unit.search.builders import KERNELS, make_device, make_spec, make_workload


def random_recipe(spec: ModelSpec, seed: int) -> Recipe:
    draw = random.Random(seed)
    dropped = {block.index for block in spec.blocks[1:] if draw.random() < 0.3}
    channels, groups, sites = [], [], []
    for block in spec.blocks:
        if block.index in dropped:
            continue
        if draw.random() < 0.5:
            channels.append(KeepChannels(block=block.index, kept_count=draw.choice((64, 96, 128))))
        if draw.random() < 0.5:
            groups.append(KeepGroups(block=block.index, kept_count=draw.choice((1, 2))))
        sites += [
            SiteEdit(
                name=site.name,
                kernel=draw.choice(KERNELS),
                rank=(rank := draw.choice((None, 8, 12))),
                form="factors" if rank is None else draw.choice(SITE_FORMS),
            )
            for site in block.sites
            if draw.random() < 0.8
        ]
    return Recipe(
        model_hash=spec.model_hash,
        context_tokens=128,
        drop_blocks=tuple(sorted(dropped)),
        keep_tokens=KeepTokens(kept_count=300) if draw.random() < 0.5 else None,
        keep_channels=tuple(channels),
        keep_groups=tuple(groups),
        table_kernel=draw.choice(KERNELS),
        sites=tuple(sites),
    )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("cache_bytes", [1 << 20, 200_000, 1 << 30])
def test_the_sum_of_the_pieces_is_the_cost_of_the_recipe(seed: int, cache_bytes: int) -> None:
    spec = make_spec(blocks=4, has_bias=seed % 2 == 0)
    model = CostModel(make_device(cache_bytes=cache_bytes), spec, make_workload(spec))
    recipe = random_recipe(spec, seed)
    edited = edit_shapes(spec, recipe)
    pieces = [model.fixed_price(), model.table_price(vocab_size=edited.vocab_size, kernel=edited.table_kernel)]
    for block in edited.blocks:
        pieces.append(model.block_price(block))
        pieces += [model.site_price(site, kernel=site.kernel, rank=site.rank) for site in block.sites]
    cost = model.cost(recipe)
    share = model.cached_fraction(sum(piece.working_set_bytes for piece in pieces))
    assert cost.disk_bytes == sum(piece.disk_bytes for piece in pieces)
    assert cost.weights_bytes == sum(piece.weights_bytes for piece in pieces)
    assert cost.parameter_count == sum(piece.parameter_count for piece in pieces) == count_parameters(edited)
    assert cost.model_memory_bytes.high == pytest.approx(
        max(sum(piece.loading_high_bytes for piece in pieces), sum(piece.running_high_bytes for piece in pieces))
    )
    assert cost.decode_s.high == pytest.approx(sum(piece.decode_high_s(share) or 0.0 for piece in pieces))
    assert cost.peak_rss_bytes.value == pytest.approx(60_000_000 + (cost.model_memory_bytes.value or 0.0))


def test_a_block_is_the_sum_of_its_parts() -> None:
    spec = make_spec(blocks=2, heads=4, kv_heads=2)
    model = CostModel(make_device(), spec, make_workload(spec))
    block = spec.blocks[0]
    whole, parts = (
        model.block_price(block),
        [
            model.block_price(mlp_only(spec, block)),
            model.block_price(attention_only(spec, block)),
        ],
    )
    for name in ("parameter_count", "kv_cache_bytes", "working_set_bytes", "disk_bytes", "running_high_bytes"):
        assert getattr(whole, name) == pytest.approx(sum(getattr(part, name) for part in parts)), name
    assert whole.decode_high_s(0.5) == pytest.approx(sum(part.decode_high_s(0.5) or 0.0 for part in parts))
    assert parts[0].kv_cache_bytes == 0


def test_weights_are_stored_bytes_of_every_tensor() -> None:
    spec = make_spec(blocks=1)
    cost = CostModel(make_device(), spec, Workload(context_tokens=100)).cost(
        Recipe(model_hash=spec.model_hash, context_tokens=100, table_kernel="int8_b32_a4")
    )
    sites = sum(4 * site.in_features * site.out_features for site in spec.blocks[0].sites)
    table = stored_bytes("int8_b32_a4", in_features=64, out_features=512)
    norms, rotary = 4 * 3 * 64, 2 * 100 * 8 * 4
    assert cost.weights_bytes == sites + table + norms + rotary


def test_the_kv_cache_is_two_float32_tensors_a_block_for_the_whole_context() -> None:
    spec = make_spec(blocks=3, heads=4, kv_heads=2)
    cost = CostModel(make_device(), spec, Workload(context_tokens=200)).cost(
        Recipe(model_hash=spec.model_hash, context_tokens=200, drop_blocks=(1,))
    )
    assert cost.kv_cache_bytes == 2 * (2 * 2 * 16 * 200 * 4)


def test_an_8_bit_cache_takes_a_byte_and_its_scales() -> None:
    spec = make_spec(blocks=3, heads=4, kv_heads=2)
    model = CostModel(make_device(), spec, Workload(context_tokens=200))
    recipe = Recipe(model_hash=spec.model_hash, context_tokens=200, drop_attention=(1,))
    plain, rounded = model.cost(recipe), model.cost(replace(recipe, kv_bits=8))
    assert rounded.kv_cache_bytes == 2 * (2 * 2 * 16 * 200) == plain.kv_cache_bytes // 4
    assert rounded.weights_bytes - plain.weights_bytes == 2 * (2 * 2 * 16 * 4)
    assert rounded.parameter_count == plain.parameter_count
    saved = (plain.model_memory_bytes.value or 0) - (rounded.model_memory_bytes.value or 0)
    assert 0 < saved < plain.kv_cache_bytes
    assert edit_shapes(spec, replace(recipe, kv_bits=8)).kv_bits == 8


def test_fewer_groups_pay_for_less_cache_less_attention_and_narrower_sites() -> None:
    spec = make_spec(blocks=3, heads=4, kv_heads=2)
    model = CostModel(make_device(), spec, Workload(context_tokens=200))
    recipe = Recipe(model_hash=spec.model_hash, context_tokens=200)
    dense = model.cost(recipe)
    fewer = model.cost(replace(recipe, keep_groups=(KeepGroups(block=1, kept_count=1),)))
    assert dense.kv_cache_bytes - fewer.kv_cache_bytes == 2 * 1 * 16 * 200 * 4
    # 64 wide, heads of 16: q and o lose 2 of 4 heads, k and v 1 of 2.
    assert dense.weights_bytes - fewer.weights_bytes == 4 * (2 * 64 * 32 + 2 * 64 * 16)
    assert (dense.model_memory_bytes.value or 0) > (fewer.model_memory_bytes.value or 0)
    price = model.block_price(spec.blocks[1]), model.block_price(with_groups(spec.blocks[1], 1))
    assert (price[0].decode_high_s(0.0) or 0) > (price[1].decode_high_s(0.0) or 0)
    assert (dense.decode_s.value or 0) > (fewer.decode_s.value or 0)


def test_an_untied_table_is_stored_twice() -> None:
    tied = make_spec()
    untied = make_spec()
    untied = type(untied)(**{name: getattr(untied, name) for name in untied.__struct_fields__} | {"is_tied": False})
    costs = [
        CostModel(make_device(), spec, make_workload(spec)).table_price(vocab_size=512, kernel="fp16")
        for spec in (tied, untied)
    ]
    assert costs[1].weights_bytes == 2 * costs[0].weights_bytes
    # The embedding reads one row a token, so decoding reads one table either way.
    assert costs[1].working_set_bytes == costs[0].working_set_bytes


def test_weights_that_fit_the_cache_are_faster_than_those_that_stream() -> None:
    spec = make_spec()
    recipe = Recipe(model_hash=spec.model_hash, context_tokens=128)
    small, large = (
        CostModel(make_device(cache_bytes=size), spec, make_workload(spec)).cost(recipe).decode_s.value
        for size in (100_000, 100_000_000)
    )
    assert small is not None
    assert large is not None
    assert large < small


def test_a_cached_fraction_holds_up_to_its_working_set_limit() -> None:
    model = CostModel(make_device(cache_bytes=1_000_000), make_spec(), Workload(context_tokens=64))
    assert model.cached_fraction(400_000) == 1.0
    assert model.cached_fraction(1_600_000) == 0.0
    for share in (0.25, 0.5, 1.0):
        limit = model.working_set_limit(share)
        assert limit is not None
        assert model.cached_fraction(int(limit)) == pytest.approx(share)


def test_a_data_sheet_gives_a_wide_estimate_of_decoding_and_nothing_it_cannot_know() -> None:
    spec = make_spec()
    model = CostModel(make_device(is_datasheet=True), spec, make_workload(spec))
    cost = model.cost(Recipe(model_hash=spec.model_hash, context_tokens=128))
    assert cost.peak_rss_bytes.value is None
    assert cost.prefill_s.value is None
    assert cost.model_memory_bytes.value is not None
    assert cost.decode_s.basis == "estimated"
    assert cost.decode_s.low is not None
    assert cost.decode_s.high is not None
    assert cost.decode_s.high > 2 * cost.decode_s.low
    assert model.timed_kernels is None


def test_unknown_time_stays_unknown_in_a_sum() -> None:
    total = Price(disk_bytes=1) + Price(disk_bytes=2, decode_cached_s=None, decode_streaming_s=None)
    assert total.disk_bytes == 3
    assert total.decode_s(0.5) is None


def test_without_streaming_points_reading_the_weights_from_memory_bounds_the_time() -> None:
    spec = make_spec()
    measured = make_device(cache_bytes=1_000)
    cached_only = replace(
        measured,
        kernel_times=tuple(point for point in measured.kernel_times if point.is_cached),
        bandwidth=(
            BandwidthPoint(
                array_bytes=1 << 28,
                thread_count=2,
                read_best_bytes_per_s=1e8,
                read_median_bytes_per_s=None,
                triad_best_bytes_per_s=None,
                triad_median_bytes_per_s=None,
            ),
        ),
    )
    recipe = Recipe(model_hash=spec.model_hash, context_tokens=128)
    cost = CostModel(cached_only, spec, make_workload(spec)).cost(recipe)
    assert cost.decode_s.low is not None
    assert cost.decode_s.low > 0.9 * cost.weights_bytes / 1e8
