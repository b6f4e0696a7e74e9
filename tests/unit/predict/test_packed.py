"""Query, key and value are priced as the one product they are in the graph."""

import pytest
from msgspec.structs import replace

from edgeprune.predict.cost import CostModel
from edgeprune.predict.packed import packed_ratios, packed_width, saved_bytes
from edgeprune.schema.budget import Workload
from edgeprune.schema.model import BlockSpec, ModelSpec
from tests.unit.search.builders import make_device, make_spec

SPEC = make_spec()
BLOCK = SPEC.blocks[0]
SITES = {site.role: site for site in BLOCK.sites}


def test_the_three_together_cost_what_one_product_of_their_width_does() -> None:
    model = CostModel(make_device(), SPEC, Workload(context_tokens=64))
    width = packed_width(BLOCK, hidden_size=SPEC.hidden_size)
    assert width == sum(SITES[role].out_features for role in ("q", "k", "v"))
    whole = replace(SITES["o"], name="alone", in_features=SPEC.hidden_size, out_features=width)
    together = [model.site_price(SITES[role], kernel="int8_b32_a4", rank=None) for role in ("q", "k", "v")]
    alone = model.site_price(whole, kernel="int8_b32_a4", rank=None)
    for cached in (0.0, 1.0):
        times = [price.decode_s(cached) for price in together]
        expected = alone.decode_s(cached)
        assert expected is not None
        assert sum(time.value for time in times if time is not None) == pytest.approx(expected.value)


def test_factors_and_other_sites_stand_alone() -> None:
    ratios = packed_ratios(SPEC)
    assert {name.rsplit(".", 1)[-1] for name in ratios} == {"q", "k", "v"}
    model = CostModel(make_device(), SPEC, Workload(context_tokens=64))
    named = replace(SITES["q"], name="elsewhere")
    of_rank = [model.site_price(site, kernel="fp32", rank=32).decode_s(1.0) for site in (SITES["q"], named)]
    assert of_rank[0] == of_rank[1]


def test_norms_on_queries_and_keys_keep_them_apart() -> None:
    normed = replace(BLOCK, norm_parameter_count=BLOCK.norm_parameter_count + 2 * BLOCK.head_dim + 1)
    assert packed_width(normed, hidden_size=SPEC.hidden_size) is None
    fused = replace(BLOCK, sites=tuple(site for site in BLOCK.sites if site.role != "k"))
    assert packed_width(fused, hidden_size=SPEC.hidden_size) is None


def test_what_packing_saves_is_told_for_blocks_whose_three_are_alike() -> None:
    def with_kernels(**kernels: str) -> ModelSpec:
        def named(block: BlockSpec) -> BlockSpec:
            return replace(
                block,
                sites=tuple(replace(site, kernel=kernels.get(site.role, "int8_b32_a4")) for site in block.sites),
            )

        return replace(SPEC, blocks=tuple(map(named, SPEC.blocks)))

    alike = saved_bytes(with_kernels())
    # Two MatMulNBits nodes with two arrays each and their names, a few hundred bytes, in each block.
    assert 600 * len(SPEC.blocks) <= alike <= 1_200 * len(SPEC.blocks)
    assert saved_bytes(with_kernels(k="int4_b32_a4")) == 0
