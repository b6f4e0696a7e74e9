"""Repaired sets of blocks on the menu of a search: taken where the loss they save is worth their bytes, and told."""

import msgspec
import pytest

from edgeprune.predict.cost import CostModel
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import Candidate
from edgeprune.schema.lock import parse_locks
from edgeprune.schema.recipe import Drops, Recipe, Repair
from edgeprune.search.allocate import Allocator
from edgeprune.search.choose import choose
from edgeprune.search.explanation import explain_recipe
from edgeprune.search.problem import Problem
from edgeprune.search.space import build_space
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload

SPEC = make_spec(blocks=5, hidden=64)
COSTS = CostModel(make_device(), SPEC, make_workload(SPEC))
BARE = Recipe(model_hash=SPEC.model_hash, context_tokens=128, drop_blocks=(1, 2))
REPAIRED = msgspec.structs.replace(BARE, repairs=(Repair(block=1, rank=8),))


def make_problem(repaired_nats: float, disk_bytes: float, *locks: str) -> Problem:
    scores, arrays = make_scores(SPEC, channel_counts=(), depth=[(1, 2)], vocabulary=[])
    (bare,) = scores.depth
    twin = msgspec.structs.replace(bare, loss_increase_nats=repaired_nats, repair_rank=8)
    scores = msgspec.structs.replace(scores, depth=(bare, twin))
    return Problem(
        spec=SPEC,
        scores=scores,
        cost_model=COSTS,
        quality_model=QualityModel(SPEC, scores, arrays),
        budget=Budget(disk_bytes=round(disk_bytes)),
        context_tokens=128,
        seed=0,
        locks=parse_locks(locks),
    )


def best_of(problem: Problem) -> Candidate:
    space = build_space(problem)
    found = choose(problem, space, Allocator(space, floor_bytes=problem.cost_model.floor_bytes))
    assert found is not None
    return found


LOCKS = ("block.1=drop", "block.2=drop", "block.*=dense", "block.*=fp32", "table=fp32")


@pytest.mark.parametrize(
    ("repaired_nats", "room", "expected"),
    [(0.1, 100, REPAIRED), (0.1, -100, BARE), (0.5, 100, BARE)],
    ids=["fits and pays", "a little short", "loses more"],
)
def test_an_operator_is_taken_where_it_fits_and_pays(repaired_nats: float, room: int, expected: Recipe) -> None:
    problem = make_problem(repaired_nats, COSTS.cost(REPAIRED).disk_bytes + room, *LOCKS)
    found = best_of(problem)
    assert found.recipe.drops == expected.drops
    assert found.recipe.repairs == expected.repairs
    assert found.cost == COSTS.cost(found.recipe)
    assert found.loss_increase_nats == problem.quality_model.depth_loss(expected.drops)


def test_an_explanation_shows_both_and_what_the_operator_costs() -> None:
    problem = make_problem(0.1, COSTS.cost(REPAIRED).disk_bytes + 100, *LOCKS)
    told = explain_recipe(problem, BARE, optimum=best_of(problem), source="recipe.toml", device_name="bench")
    assert told.depth.chosen.label == "drop 1 2"
    assert [option.label for option in told.depth.alternatives][:1] == ["drop 1 2, repaired at rank 8"]
    assert told.departures[0].optimal == "drop 1 2, repaired at rank 8"


def test_another_rank_was_never_scored() -> None:
    problem = make_problem(0.1, 1e9)
    assert problem.quality_model.depth_loss(Drops(blocks=(1, 2)).repaired(16)) is None
