"""Prices of repairs: an operator costs what it stores, and is the sum of its parts like every other piece."""

from msgspec.structs import replace

from edgeprune.predict.cost import CostModel
from edgeprune.schema.recipe import Recipe, Repair
from edgeprune.shapes import count_parameters, edit_shapes
from tests.unit.search.builders import make_device, make_spec, make_workload


def test_a_repaired_recipe_costs_its_operators_more() -> None:
    spec = make_spec(blocks=5)
    model = CostModel(make_device(), spec, make_workload(spec))
    bare = Recipe(model_hash=spec.model_hash, context_tokens=128, drop_blocks=(1, 3))
    repaired = replace(bare, repairs=(Repair(block=1, rank=8), Repair(block=3, rank=24)))
    costs = [model.cost(recipe) for recipe in (bare, repaired)]
    price = model.repair_price([8, 24])
    stored = 2 * spec.hidden_size * (8 + 24) + 2 * spec.hidden_size
    assert costs[1].parameter_count - costs[0].parameter_count == stored == price.parameter_count
    assert costs[1].parameter_count == count_parameters(edit_shapes(spec, repaired))
    assert costs[1].weights_bytes - costs[0].weights_bytes == 4 * stored
    assert costs[1].disk_bytes - costs[0].disk_bytes == price.disk_bytes > 4 * stored
    assert (costs[1].decode_s.value or 0.0) > (costs[0].decode_s.value or 0.0)
    assert (costs[1].peak_rss_bytes.value or 0.0) > (costs[0].peak_rss_bytes.value or 0.0)
