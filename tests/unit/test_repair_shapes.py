"""Shapes of repairs: where an operator stands, what it stores, and which repairs there cannot be."""

import pytest

from edgeprune.errors import RecipeError
from edgeprune.intake.spec import read_spec
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import Drops, Recipe, Repair
from edgeprune.schema.scores import DepthOption
from edgeprune.shapes import edit_shapes
from tests.tiny import write_tiny_llama


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """Blocks 0, 1 and 2."""
    return read_spec(write_tiny_llama(tmp_path_factory.mktemp("model") / "m"))


def recipe(spec: ModelSpec, **edits: object) -> Recipe:
    return Recipe(model_hash=spec.model_hash, context_tokens=64, **edits)  # type: ignore[arg-type]


def test_runs_join_parts_that_follow_each_other() -> None:
    drops = Drops(blocks=(2, 3, 7), attention=(4, 9), mlp=(1, 5))
    found = [(run.block, run.starts_at_mlp, run.next_block, run.ends_at_mlp) for run in drops.runs]
    assert found == [
        (1, True, 4, True),  # MLP of 1, blocks 2 and 3, attention of 4: the MLP of 4 is what follows
        (5, True, 6, False),
        (7, False, 8, False),
        (9, False, 9, True),
    ]


def test_a_repair_stores_two_factors_and_an_intercept_at_the_block_after_the_run(spec: ModelSpec) -> None:
    bare = edit_shapes(spec, recipe(spec, drop_blocks=(1,)))
    edited = edit_shapes(spec, recipe(spec, drop_blocks=(1,), repairs=(Repair(block=1, rank=4),)))
    assert [(block.index, block.repair_rank) for block in edited.blocks] == [(0, None), (2, 4)]
    assert edited.parameter_count - bare.parameter_count == 2 * 4 * spec.hidden_size + spec.hidden_size


def test_attention_dropped_alone_is_repaired_at_its_own_block(spec: ModelSpec) -> None:
    edited = edit_shapes(spec, recipe(spec, drop_attention=(1,), repairs=(Repair(block=1, rank=4),)))
    assert [block.repair_rank for block in edited.blocks] == [None, 4, None]


@pytest.mark.parametrize(
    ("edits", "entry", "said"),
    [
        ({"drop_blocks": (1,), "repairs": (Repair(block=0, rank=4),)}, "block", "no dropped run begins"),
        ({"repairs": (Repair(block=1, rank=4),)}, "block", "runs begin in none"),
        ({"drop_blocks": (1, 2), "repairs": (Repair(block=1, rank=4),)}, "block", "nothing is kept after"),
        ({"drop_blocks": (1,), "repairs": (Repair(block=1, rank=0),)}, "rank", "rank 0 must lie in 1..64"),
        ({"drop_blocks": (1,), "repairs": (Repair(block=1, rank=65),)}, "rank", "rank 65 must lie in 1..64"),
        ({"drop_blocks": (1,), "repairs": (Repair(block=1, rank=4), Repair(block=1, rank=4))}, "block", "twice"),
    ],
)  # fmt: skip
def test_repairs_that_cannot_be_are_refused(spec: ModelSpec, edits: dict[str, object], entry: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        edit_shapes(spec, recipe(spec, **edits))
    assert caught.value.entry[0] == "repairs"
    assert caught.value.entry[-1] == entry


def test_a_scored_set_with_repair_is_another_set_than_without() -> None:
    bare = DepthOption(drop_blocks=(6, 5, 2), loss_increase_nats=0.5, selector="lorp")
    repaired = DepthOption(drop_blocks=(2, 5, 6), loss_increase_nats=0.2, selector="lorp", repair_rank=8)
    assert repaired.drops.repairs == ((2, 8), (5, 8))
    assert bare.drops != repaired.drops
    repairs = (Repair(block=5, rank=8), Repair(block=2, rank=8))
    assert Recipe(model_hash="", context_tokens=1, drop_blocks=(2, 5, 6), repairs=repairs).drops == repaired.drops
