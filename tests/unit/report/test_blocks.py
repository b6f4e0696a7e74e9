"""What a report says was removed from each block."""

from edgeprune.report.blocks import block_rows
from edgeprune.schema.recipe import KeepChannels, KeepGroups, Recipe
from edgeprune.shapes import edit_shapes
from tests.unit.search.builders import make_spec


def test_channels_and_groups_are_told_of_every_block() -> None:
    dense = make_spec(blocks=3, heads=8, kv_heads=4)
    recipe = Recipe(
        model_hash=dense.model_hash,
        context_tokens=64,
        drop_blocks=(1,),
        drop_attention=(2,),
        keep_groups=(KeepGroups(block=0, kept_count=3),),
        keep_channels=(KeepChannels(block=2, kept_count=96),),
    )
    rows = block_rows(dense, edit_shapes(dense, recipe))
    assert [row.groups for row in rows] == ["3 of 4", "0 of 4", "0 of 4"]
    assert [row.channels for row in rows] == ["176 of 176", "0 of 176", "96 of 176"]
    # Each group takes 2 of 8 query heads along: a quarter of q, k, v and o.
    attention = 2 * 64 * 64 + 2 * 64 * 32
    assert rows[0].kept_fraction == 1.0 - attention / 4 / (attention + 3 * 64 * 176 + 2 * 64)
