"""Head layouts whose attention a device times."""

from edgeprune.pipeline.device_stages import attention_shapes
from edgeprune.shapes import mlp_only
from tests.unit.search.builders import make_spec


def test_half_of_the_groups_is_timed_beside_all_of_them() -> None:
    assert attention_shapes(make_spec(heads=8, kv_heads=4)) == ((4, 2, 8), (8, 4, 8))
    assert attention_shapes(make_spec(heads=4, kv_heads=1)) == ((4, 1, 16),)


def test_blocks_without_attention_ask_for_nothing() -> None:
    spec = make_spec(blocks=2, heads=4, kv_heads=2)
    values = {name: getattr(spec, name) for name in spec.__struct_fields__}
    half = type(spec)(**values | {"blocks": (mlp_only(spec, spec.blocks[0]), spec.blocks[1])})
    assert attention_shapes(half) == ((2, 1, 16), (4, 2, 16))
