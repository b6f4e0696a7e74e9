"""`effort`: a whole search of the lab model with verification, from its scores on: evaluations, minutes, solving again.

The run folder is a copy of the calibrated one without any finished evaluation. Solving again reads records alone, as a
slider would ask for it: another budget, with what the evaluations taught, in processor time (a busy machine tells no
other). Every kind of limit is asked for, also limits that cannot be met.
"""

import contextlib
import shutil
import sys
import tempfile
import time
from pathlib import Path

from msgspec.structs import replace

from edgeprune.artifacts import RunFolder, read_record
from edgeprune.pipeline.solve import solve_request
from edgeprune.pipeline.stages import stage_named
from edgeprune.pipeline.table import Run, run_stage
from edgeprune.schema.budget import BudgetRequest, Limit
from edgeprune.schema.events import NullProgress
from edgeprune.schema.residuals import Residuals
from tests.bench.search_claims import Claims
from tests.bench.search_lab import Lab, open_lab

__all__ = ["run"]

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
REPEATS = 3


def run(claims: Claims, *, quick: bool) -> None:
    lab = open_lab(quick=quick)
    if lab is None:
        print("  EDGEPRUNE_LAB is not set: left out", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as name:
        residuals = _search(claims, lab, Path(name) / "run", quick=quick)
    rows: list[dict[str, object]] = []
    for title, budget in AGAIN.items():
        best = float("inf")
        for _ in range(1 if quick else REPEATS):
            started = time.process_time()
            result = solve_request(
                budget,
                device=lab.device,
                spec=lab.spec,
                scores=lab.scores,
                arrays=lab.arrays,
                workload=lab.workload,
                seed=0,
                residuals=residuals,
            )
            best = min(best, time.process_time() - started)
        chosen = result.chosen
        rows.append(
            {
                "solved again for": title,
                "seconds": best,
                "gap": None if chosen is None else chosen.optimality_gap,
                "loss": None if chosen is None else chosen.relative_loss,
            }
        )
    claims.keep("effort", rows)
    claims.below("effort", "solving again, front included, slowest", max(float(str(row["seconds"])) for row in rows), 1)


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
