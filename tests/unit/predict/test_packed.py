"""Query, key and value are priced as the one product they are in the graph."""

import pytest
from msgspec.structs import replace

from edgeprune.predict.cost import CostModel
from edgeprune.predict.packed import joined_counts, packed_shares, packed_widths, saved_bytes
from edgeprune.schema.budget import Workload
from edgeprune.schema.model import BlockSpec, ModelSpec
from tests.unit.search.builders import make_device, make_spec

SPEC = make_spec()
BLOCK = SPEC.blocks[0]
SITES = {site.role: site for site in BLOCK.sites}


def test_the_three_together_cost_what_one_product_of_their_width_does() -> None:
    model = CostModel(make_device(), SPEC, Workload(context_tokens=64))
    width = packed_widths(BLOCK, hidden_size=SPEC.hidden_size)["q", "k", "v"]
    assert width == sum(SITES[role].out_features for role in ("q", "k", "v"))
    whole = replace(SITES["o"], name="alone", in_features=SPEC.hidden_size, out_features=width)
    together = [model.site_price(SITES[role], kernel="int8_b32_a4", rank=None) for role in ("q", "k", "v")]
    alone = model.site_price(whole, kernel="int8_b32_a4", rank=None)
    for cached in (0.0, 1.0):
        times = [price.decode_s(cached) for price in together]
        expected = alone.decode_s(cached)
        assert expected is not None
        assert sum(time.value for time in times if time is not None) == pytest.approx(expected.value)


def test_gate_and_up_are_half_of_a_product_and_a_split_each_in_integers_alone() -> None:
    device = make_device()
    model = CostModel(device, SPEC, Workload(context_tokens=64))
    site = SITES["gate"]
    both = replace(site, name="alone", out_features=2 * site.out_features)
    for kernel in ("int4_b32_a4", "fp32"):
        share = model.site_price(site, kernel=kernel, rank=None).decode_s(1.0)
        pair = model.site_price(both, kernel=kernel, rank=None).decode_s(1.0)
        single = model.site_price(replace(site, name="alone"), kernel=kernel, rank=None).decode_s(1.0)
        assert device.overhead is not None
        assert device.overhead.node_s is not None
        assert share is not None
        assert pair is not None
        assert single is not None
        expected = single.value if kernel == "fp32" else (pair.value + device.overhead.node_s) / 2
        assert share.value == pytest.approx(expected)


def test_right_factors_of_one_input_are_priced_as_one_product_and_a_split() -> None:
    assert {name.rsplit(".", 1)[-1] for name in packed_shares(SPEC)} == {"q", "k", "v", "gate", "up"}
    device = make_device()
    model = CostModel(device, SPEC, Workload(context_tokens=64))
    site, rank, kernel = SITES["q"], 32, "fp32"
    alone = model.site_price(replace(site, name="elsewhere"), kernel=kernel, rank=rank).decode_s(1.0)
    shared = model.site_price(site, kernel=kernel, rank=rank).decode_s(1.0)
    factor, together = (
        model.site_price(replace(site, name="elsewhere", out_features=width), kernel=kernel, rank=None).decode_s(1.0)
        for width in (rank, 3 * rank)
    )
    assert device.overhead is not None
    assert device.overhead.node_s is not None
    assert alone is not None
    assert shared is not None
    assert factor is not None
    assert together is not None
    one_product = (together.value + device.overhead.node_s) / 3
    assert shared.value == pytest.approx(alone.value - factor.value + min(factor.value, one_product))
    assert shared.value < alone.value
    assert {joined_counts(SPEC)[SITES[role].name] for role in ("q", "k", "v")} == {3}
    assert joined_counts(SPEC)[SITES["gate"].name] == joined_counts(SPEC)[SITES["up"].name] == 2
    assert SITES["down"].name not in joined_counts(SPEC)


def test_norms_on_queries_and_keys_keep_them_apart() -> None:
    normed = replace(BLOCK, norm_parameter_count=BLOCK.norm_parameter_count + 2 * BLOCK.head_dim + 1)
    assert set(packed_widths(normed, hidden_size=SPEC.hidden_size)) == {("gate", "up")}
    fused = replace(BLOCK, sites=tuple(site for site in BLOCK.sites if site.role != "k"))
    assert set(packed_widths(fused, hidden_size=SPEC.hidden_size)) == {("gate", "up")}


def test_what_packing_saves_is_told_for_blocks_whose_sites_are_alike() -> None:
    def with_kernels(**kernels: str) -> ModelSpec:
        def named(block: BlockSpec) -> BlockSpec:
            return replace(
                block,
                sites=tuple(replace(site, kernel=kernels.get(site.role, "int8_b32_a4")) for site in block.sites),
            )

        return replace(SPEC, blocks=tuple(map(named, SPEC.blocks)))

    alike = saved_bytes(with_kernels())
    # Three MatMulNBits nodes with two arrays each and their names, a few hundred bytes, in each block, less a Split.
    assert 800 * len(SPEC.blocks) <= alike <= 1_500 * len(SPEC.blocks)
    unlike = saved_bytes(with_kernels(k="int4_b32_a4"))
    assert 0 < unlike < alike / 2
    assert saved_bytes(with_kernels(k="int4_b32_a4", gate="int4_b32_a4")) == 0
    # Gate and up in floats stay apart, as they do where they are unlike.
    assert saved_bytes(with_kernels(gate="fp32", up="fp32")) == saved_bytes(with_kernels(gate="int4_b32_a4"))
