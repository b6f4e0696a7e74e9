"""Locks: what they leave of the choices, and how those that cannot hold are refused."""

import pytest

from edgeprune.errors import UsageError
from edgeprune.predict.cost import CostModel
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.lock import parse_lock, parse_locks
from edgeprune.schema.recipe import Recipe
from edgeprune.search.locks import Holds
from edgeprune.search.solve import search
from edgeprune.shapes import edit_shapes
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload

SPEC = make_spec(blocks=3)
BUDGET = Budget(disk_bytes=150_000)


def solve(*locks: str, budget: Budget = BUDGET) -> SearchResult:
    scores, arrays = make_scores(SPEC, channel_counts=(96, 128), depth=[(1,), (2,), (1, 2)], vocabulary=[256, 384])
    workload = make_workload(SPEC)
    return search(
        SPEC,
        scores,
        arrays,
        cost_model=CostModel(make_device(), SPEC, workload),
        quality_model=QualityModel(SPEC, scores, arrays),
        budget=budget,
        workload=workload,
        device_name="bench",
        seed=0,
        locks=parse_locks(locks),
    )


def recipe_of(*locks: str, budget: Budget = BUDGET) -> Recipe:
    result = solve(*locks, budget=budget)
    assert result.chosen is not None, result.infeasible
    assert [str(lock) for lock in result.locks] == list(locks)
    return result.chosen.recipe


def test_a_width_holds_for_every_site_the_pattern_names_and_for_no_other() -> None:
    free, recipe = recipe_of(), recipe_of("blocks.0-1.*=int8")
    shapes = edit_shapes(SPEC, recipe)
    held = {site.kernel for block in shapes.blocks if block.index < 2 for site in block.sites}
    others = {site.kernel for block in shapes.blocks if block.index == 2 for site in block.sites}
    assert held <= {"int8_b32_a4", "int8_b32_a0"}
    assert "int4_b32_a4" in {edit.kernel for edit in free.sites if edit.name.startswith("blocks.0.")}
    assert not others or others - held


def test_a_kernel_by_its_full_name_is_that_kernel() -> None:
    recipe = recipe_of("*.o=int4_b128_a4", "table=int8_b32_a4")
    kernels = {edit.name: edit.kernel for edit in recipe.sites}
    kept = [block.index for block in SPEC.blocks if block.index not in recipe.drop_blocks]
    assert {kernels[f"blocks.{index}.o"] for index in kept} == {"int4_b128_a4"}
    assert recipe.table_kernel == "int8_b32_a4"


@pytest.mark.parametrize(
    ("action", "holds"),
    [
        ("rank=24", lambda rank: rank == 24),
        ("rank=37", lambda rank: rank == 37),
        ("rank<=16", lambda rank: rank is not None and rank <= 16),
        ("rank>=17", lambda rank: rank is None or rank >= 17),
        ("dense", lambda rank: rank is None),
    ],
)
def test_ranks_stay_within_their_bound_also_off_the_ladder(action: str, holds: object) -> None:
    assert callable(holds)
    recipe = recipe_of(f"block.2.down={action}", "block.2=keep", "block.2=channels=176")
    edits = [edit for edit in recipe.sites if edit.name == "blocks.2.down"]
    assert holds(edits[0].rank if edits else None)


def test_blocks_are_kept_and_dropped_as_told() -> None:
    tight = Budget(disk_bytes=100_000)
    assert recipe_of(budget=tight).drop_blocks, "the budget must be one that drops blocks by itself"
    assert recipe_of("blocks.1-2=keep", budget=tight).drop_blocks == ()
    assert recipe_of("depth=none", budget=tight).drop_blocks == ()
    assert recipe_of("block.2=drop", budget=Budget(disk_bytes=400_000)).drop_blocks in ((2,), (1, 2))
    assert recipe_of("block.2=drop", "block.1=keep", budget=tight).drop_blocks == (2,)


def test_channels_and_tokens_take_the_number_given() -> None:
    recipe = recipe_of("block.0=channels=112", "vocabulary=tokens=300", "block.1=dense", "depth=none")
    assert recipe.keep_tokens is not None
    assert recipe.keep_tokens.kept_count == 300
    counts = {entry.block: entry.kept_count for entry in recipe.keep_channels}
    assert counts[0] == 112
    assert 1 not in counts
    assert recipe_of("vocabulary=none", budget=Budget(disk_bytes=100_000)).keep_tokens is None


def test_a_lock_costs_what_it_takes_away() -> None:
    free, held = solve().chosen, solve("blocks.*=fp32", "depth=none", budget=Budget(disk_bytes=400_000)).chosen
    assert free is not None
    assert held is not None
    assert solve("block.0=int8").chosen is not None
    assert (solve("block.0=int8").chosen or free).loss_increase_nats >= free.loss_increase_nats
    assert {edit.kernel for edit in held.recipe.sites} <= {"fp32"}


def test_locks_that_leave_the_budget_out_of_reach_are_an_answer() -> None:
    result = solve("*=fp32", "*=dense", "table=fp32", "depth=none", "vocabulary=none", budget=Budget(disk_bytes=80_000))
    assert result.chosen is None
    assert result.infeasible is not None
    assert result.infeasible.binding == ("disk",)
    nearest = result.infeasible.nearest
    assert nearest is not None
    assert (nearest.disk_bytes or 0) > SPEC.parameter_count * 4


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("blocks.0.q", "PATTERN=ACTION"),
        ("=int8", "PATTERN=ACTION"),
        ("blocks.0.q=int9", "no action 'int9'"),
        ("blocks.0.q=rank", "no action 'rank'"),
        ("blocks.0.q=rank<96", "no action"),
        ("blocks.0.q=rank=-3", "no action"),
    ],
)
def test_what_is_no_lock_is_refused(text: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        parse_lock(text)


@pytest.mark.parametrize(
    ("locks", "named"),
    [
        (["blocks.9.q=int8"], r"'blocks\.9\.q=int8'.*nothing called 'blocks\.9\.q'.*blocks\.\d\.q"),
        (["block.7=keep"], r"nothing called 'block\.7'.*block\.\d"),
        (["tabel=int8"], r"nearest are table"),
        (["blocks.0.q=keep"], "is for whole blocks"),
        (["*.q=channels=96"], "is for whole blocks"),
        (["blocks.0=none"], "vocabulary or depth"),
        (["table=keep"], "table takes"),
        (["depth=int8"], "depth takes none"),
        (["block.1=keep", "block.1=drop"], r"'block\.1=drop' and 'block\.1=keep' contradict"),
        (["depth=none", "block.1=drop"], r"'block\.1=drop' and 'depth=none' contradict"),
        (["block.0=drop"], r"'block\.0=drop' leaves no option.*none, 1, 1 2, 2"),
        (["*.q=int8", "block.1.q=int4"], r"'\*\.q=int8' and 'block\.1\.q=int4' together leave no option for blocks"),
        (["block.0.q=rank=65"], r"'block\.0\.q=rank=65' leaves no option for blocks\.0\.q; .*rank 24"),
        (["block.0.up=rank=8", "block.0.up=dense"], r"'block\.0\.up=rank=8' and 'block\.0\.up=dense' together leave"),
        (["block.0=channels=8"], r"'block\.0=channels=8' leaves no option for the width of block 0; .*96 channels"),
        (["block.0=channels=96", "*.down=dense"], r"width of block 0"),
        (["table=int8", "table=int4"], "'table=int8' and 'table=int4' together leave no option for the tables"),
        (["vocabulary=tokens=9999"], "leaves no option for the tables; .*256 tokens"),
    ],
)  # fmt: skip
def test_locks_that_cannot_hold_are_refused_by_name(locks: list[str], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        solve(*locks)


def test_patterns_are_globs_over_the_models_own_names() -> None:
    def held(pattern: str) -> list[str]:
        holds = Holds(SPEC, parse_locks([f"{pattern}=int8"]))
        return [site.name for block in SPEC.blocks for site in block.sites if holds.of_site(site.name)]

    every = [site.name for block in SPEC.blocks for site in block.sites]
    assert held("*") == held("blocks.*") == held("block.0-2") == every
    assert held("blocks.[02].up") == ["blocks.0.up", "blocks.2.up"]
    assert held("block.1.?") == ["blocks.1.q", "blocks.1.k", "blocks.1.v", "blocks.1.o"]
    assert held("blocks.1") == [name for name in every if name.startswith("blocks.1.")]
