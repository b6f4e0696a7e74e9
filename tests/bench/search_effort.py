"""`effort`: a whole search of the lab model with verification, from its scores on: evaluations, minutes, solving again.

The run folder is a copy of the calibrated one without any finished evaluation. Solving again reads records alone, in
one process as the app's sliders have it, with what the evaluations taught, in processor time (a busy machine tells no
other). Every kind of limit is asked for, also limits that cannot be met: once for the first time, then with every limit
moved up and down by a fiftieth. Beside them the very first solve, one with a lock, and one in another context, which
prepares everything anew.
"""

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from edgeprune.artifacts import RunFolder, read_record
from edgeprune.pipeline.solve import RequestSolver
from edgeprune.pipeline.stages import stage_named
from edgeprune.pipeline.table import Run, run_stage
from edgeprune.schema.budget import BudgetRequest, Limit, Workload
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.events import NullProgress
from edgeprune.schema.lock import Lock
from edgeprune.schema.residuals import Residuals
from tests.bench.search_claims import Claims
from tests.bench.search_lab import Lab, open_lab

__all__ = ["run"]

T = TypeVar("T")

EVALUATIONS = 25
MINUTES = 10.0
BUDGET = BudgetRequest(disk=Limit(absolute=7e6), memory=Limit(absolute=90e6))


def _of_dense(share: float) -> Limit:
    return Limit(percent_of_dense=share)


AGAIN = {
    "disk": BudgetRequest(disk=Limit(absolute=6e6)),
    "disk, memory": BudgetRequest(disk=Limit(absolute=9e6), memory=Limit(absolute=95e6)),
    "loss": BudgetRequest(max_loss=0.05),
    "latency 0.3": BudgetRequest(latency=_of_dense(0.3)),
    "latency 0.2": BudgetRequest(latency=_of_dense(0.2)),
    "first token 0.5": BudgetRequest(first_token=_of_dense(0.5)),
    "first token 0.3": BudgetRequest(first_token=_of_dense(0.3)),
    "latency, disk": BudgetRequest(latency=_of_dense(0.25), disk=_of_dense(0.15)),
    "all four": BudgetRequest(
        latency=_of_dense(0.25), disk=_of_dense(0.15), memory=_of_dense(0.8), first_token=_of_dense(0.6)
    ),
    "least latency": BudgetRequest(max_loss=0.05, objective="latency"),
    "least memory": BudgetRequest(max_loss=0.05, latency=_of_dense(0.4), objective="memory"),
    "infeasible disk": BudgetRequest(disk=_of_dense(0.005)),
    "infeasible latency, loss": BudgetRequest(latency=_of_dense(0.15), max_loss=0.001),
    "infeasible memory, disk, loss": BudgetRequest(memory=_of_dense(0.7), disk=_of_dense(0.1), max_loss=0.001),
    "infeasible first token, loss": BudgetRequest(first_token=_of_dense(0.2), max_loss=0.001),
}
LOCK = Lock(pattern="blocks.0-3", action="int8")
MOVES = (1.02, 0.98)


def run(claims: Claims, *, quick: bool) -> None:
    lab = open_lab(quick=quick)
    if lab is None:
        print("  EDGEPRUNE_LAB is not set: left out", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as name:
        residuals = _search(claims, lab, Path(name) / "run", quick=quick)
    start_s, solver = _timed(lambda: _solver(lab, lab.workload, residuals))
    first_s, _ = _timed(lambda: solver.solve(BUDGET, seed=0))
    rows: list[dict[str, object]] = [_row("the very first", start_s + first_s)]
    for title, budget in AGAIN.items():
        first_s, result = _timed(lambda budget=budget: solver.solve(budget, seed=0))
        asked = [_moved(budget, factor) for factor in MOVES]
        moves = [_timed(lambda to=to: solver.solve(to, seed=0))[0] for to in asked]
        rows.append(_row(title, first_s, max(moves), result))
    rows.append(_row("a lock", _timed(lambda: solver.solve(BUDGET, seed=0, locks=(LOCK,)))[0]))
    halved = replace(lab.workload, context_tokens=lab.workload.context_tokens // 2)
    rows.append(_row("half the context", _timed(lambda: _solver(lab, halved, residuals).solve(BUDGET, seed=0))[0]))
    claims.keep("effort", rows)
    for column in ("seconds", "moved s"):
        slowest = max(rows, key=lambda row: float(str(row[column] or 0.0)))
        what = f"solving again, front included, slowest ({slowest['solved again for']}), {column}"
        claims.below("effort", what, float(str(slowest[column])), 1.0, unit=" s")


def _solver(lab: Lab, workload: Workload, residuals: Residuals) -> RequestSolver:
    return RequestSolver(
        device=lab.device, spec=lab.spec, scores=lab.scores, arrays=lab.arrays, workload=workload, residuals=residuals
    )


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def _moved(budget: BudgetRequest, factor: float) -> BudgetRequest:
    """The budget with every limit scaled."""

    def scaled(limit: Limit | None) -> Limit | None:
        if limit is None or limit.absolute is None:
            return limit and Limit(percent_of_dense=(limit.percent_of_dense or 0.0) * factor)
        return Limit(absolute=limit.absolute * factor)

    return replace(
        budget,
        memory=scaled(budget.memory),
        disk=scaled(budget.disk),
        latency=scaled(budget.latency),
        first_token=scaled(budget.first_token),
        max_loss=None if budget.max_loss is None else budget.max_loss * factor,
    )


def _row(
    title: str, seconds: float, moved_s: float | None = None, result: SearchResult | None = None
) -> dict[str, object]:
    chosen = None if result is None else result.chosen
    return {
        "solved again for": title,
        "seconds": seconds,
        "moved s": moved_s,
        "gap": None if chosen is None else chosen.optimality_gap,
        "loss": None if chosen is None else chosen.relative_loss,
    }


def _search(claims: Claims, lab: Lab, root: Path, *, quick: bool) -> Residuals:
    shutil.copytree(lab.run.folder.root, root, ignore=shutil.ignore_patterns("evaluations", "residuals.json"))
    # Two processes, as a run on this machine would be given; each computes with one thread.
    request = replace(lab.run.request, budget=BUDGET, evaluations=2 if quick else EVALUATIONS, worker_count=2)
    folder = RunFolder(root)
    run = Run(folder=folder, request=request, manifest=lab.run.manifest, progress=NullProgress())
    started = time.perf_counter()
    with contextlib.closing(run):
        for name in ("search", "refine"):
            run_stage(stage_named(name), run)
    minutes = (time.perf_counter() - started) / 60.0
    residuals = read_record(folder.residuals, Residuals)
    claims.below("effort", "recipes really built", float(len(residuals.evaluations)), EVALUATIONS)
    claims.below("effort", "search and verification", minutes, MINUTES, unit=" min")
    return residuals
