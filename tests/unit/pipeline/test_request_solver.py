"""`RequestSolver`: what it keeps between requests changes no answer, and a slider that moves builds nothing again."""

import random
from typing import Any

import pytest
from msgspec.structs import replace

from edgeprune.pipeline.solve import RequestSolver, solve_request
from edgeprune.schema.budget import BudgetRequest, Limit
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.lock import Lock
from edgeprune.search import spaces
from edgeprune.search.problem import Problem
from edgeprune.search.space import Space, build_space
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload

SPEC = make_spec(blocks=3, max_positions=512)
SCORES, ARRAYS = make_scores(SPEC, channel_counts=(96, 128), depth=[(1,), (1, 2)], vocabulary=[256, 384])
RECORDS: dict[str, Any] = {
    "device": make_device(),
    "spec": SPEC,
    "scores": SCORES,
    "arrays": ARRAYS,
    "workload": type(make_workload(SPEC))(context_tokens=512, prefill_chunk_tokens=32, decode_tokens=16),
}
INT8 = (Lock(pattern="blocks.0", action="int8"),)


def share(percent: float) -> Limit:
    return Limit(percent_of_dense=percent)


ASKED: list[tuple[BudgetRequest, tuple[Lock, ...]]] = [
    (BudgetRequest(disk=share(0.3)), ()),
    (BudgetRequest(disk=share(0.3)), INT8),
    (BudgetRequest(disk=share(0.2)), ()),
    (BudgetRequest(latency=share(0.6)), ()),
    (BudgetRequest(latency=share(0.5), disk=share(0.4)), ()),
    (BudgetRequest(first_token=share(0.7)), ()),
    (BudgetRequest(max_loss=0.05), ()),
    (BudgetRequest(max_loss=0.05, objective="latency"), ()),
    (BudgetRequest(max_general_loss=0.05, disk=share(0.4)), ()),
    (BudgetRequest(disk=share(0.01)), ()),
    (BudgetRequest(memory=share(0.9), max_loss=0.0001, latency=share(0.2)), ()),
    (BudgetRequest(disk=share(0.05)), INT8),
]


def timeless(result: SearchResult) -> SearchResult:
    return replace(result, solve_s=None)


@pytest.mark.parametrize("seed", range(3))
def test_answers_do_not_depend_on_what_was_asked_before(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if seed:
        monkeypatch.setattr(spaces, "MOST", seed)  # with and without spaces that had to go
    solver = RequestSolver(**RECORDS)
    order = ASKED * 2
    random.Random(seed).shuffle(order)
    for budget, locks in order:
        alone = solve_request(budget, **RECORDS, seed=0, locks=locks)
        assert timeless(solver.solve(budget, seed=0, locks=locks)) == timeless(alone), budget


def test_a_limit_that_moves_builds_no_space(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Problem] = []

    def watched(problem: Problem) -> Space:
        built.append(problem)
        return build_space(problem)

    monkeypatch.setattr(spaces, "build_space", watched)
    solver = RequestSolver(**RECORDS)
    found = [solver.solve(BudgetRequest(disk=share(percent)), seed=0) for percent in (0.6, 0.5, 0.4, 0.3)]
    assert len(built) == 1
    sizes = [result.chosen.cost.disk_bytes for result in found if result.chosen is not None]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4
    solver.solve(BudgetRequest(latency=share(0.5)), seed=0)
    assert len(built) == 2, "time decides between options where it is limited"
