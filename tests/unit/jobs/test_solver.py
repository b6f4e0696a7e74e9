"""`SolverChild`: the answers of the search, the newest question only."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgeprune import api
from edgeprune.errors import DeviceError, UsageError
from edgeprune.jobs.solver import SolverChild, request_of
from edgeprune.schema.budget import Budget, BudgetRequest, Limit
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.lock import parse_locks
from tests.cli.scored_run import write_scored_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scored_run(tmp_path_factory.mktemp("solver") / "scored")


@pytest.fixture
def solver(run: Path) -> Iterator[SolverChild]:
    made = SolverChild(run)
    yield made
    made.close()


def timeless(result: SearchResult | None) -> SearchResult:
    assert result is not None
    return replace(result, solve_s=None)


def test_it_answers_as_the_search_does_and_writes_nothing(solver: SolverChild, run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    locks = parse_locks(["table=int8"])
    budget = BudgetRequest(disk=Limit(percent_of_dense=0.5))
    found = [
        solver.solve(),
        solver.solve(budget),
        solver.solve(budget, context=96, locks=locks),
        solver.solve(Budget(disk_bytes=140_000)),
    ]
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    wanted = [
        api.search(run),
        api.search(run, budget=budget),
        api.search(run, budget=budget, context=96, locks=locks),
    ]
    assert [timeless(result) for result in found[:3]] == [timeless(result) for result in wanted]
    assert timeless(found[3]).budget.disk_bytes == 140_000


def test_a_newer_question_makes_older_ones_return_nothing(solver: SolverChild) -> None:
    solver.solve()
    answers: dict[int, SearchResult | None] = {}
    started = threading.Event()

    def ask(number: int) -> None:
        started.set()
        answers[number] = solver.solve(Budget(disk_bytes=150_000 + number))

    threads = []
    for number in range(12):
        started.clear()
        thread = threading.Thread(target=ask, args=(number,))
        thread.start()
        started.wait()
        threads.append(thread)
    for thread in threads:
        thread.join()
    kept = [number for number, result in answers.items() if result is not None]
    assert len(answers) == 12
    assert 1 <= len(kept) < 12
    for number in kept:
        assert timeless(answers[number]).budget.disk_bytes == 150_000 + number


def test_a_refused_question_leaves_the_solver_working(solver: SolverChild) -> None:
    with pytest.raises(UsageError, match="--min-accuracy needs questions"):
        solver.solve(BudgetRequest(min_accuracy=0.5))
    with pytest.raises(UsageError, match="too short to measure"):
        solver.solve(context=10)
    assert timeless(solver.solve()).chosen is not None


def test_what_is_no_run_and_what_has_died_are_told(tmp_path: Path, run: Path) -> None:
    lost = SolverChild(tmp_path)
    with pytest.raises(UsageError, match="is not a run folder"):
        lost.solve()
    with pytest.raises(UsageError, match="is not a run folder"):
        lost.solve()
    lost.close()
    killed = SolverChild(run)
    killed.solve()
    assert killed._process is not None
    killed._process.kill()
    with pytest.raises(DeviceError, match="ended; open the run again"):
        killed.solve()
    killed.close()


def test_closing_wakes_whoever_waits(run: Path) -> None:
    solver = SolverChild(run)
    answers: list[SearchResult | None] = []
    waiting = threading.Thread(target=lambda: answers.append(solver.solve()))
    waiting.start()
    solver.close()
    waiting.join()
    assert answers == [None]
    assert solver.solve() is None


def test_a_resolved_budget_becomes_the_limits_it_came_from() -> None:
    request = request_of(Budget(memory_bytes=900, reserve_bytes=100, max_loss=0.02, latency_s=0.5, objective="loss"))
    assert request == BudgetRequest(
        memory=Limit(absolute=1000.0), reserve_bytes=100, max_loss=0.02, latency=Limit(absolute=0.5)
    )
