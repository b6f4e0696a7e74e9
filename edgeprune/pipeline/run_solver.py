"""`RunSolver`: the records of a calibrated run, read once and solved for as many budgets as wanted.

Writes nothing. Needs no weights and no torch, so it answers while a slider moves.
"""

from edgeprune.artifacts import read_arrays, read_record
from edgeprune.pipeline.evaluations import with_measured
from edgeprune.pipeline.settings import searched_scores, searched_spec, stored_residuals, workload_of
from edgeprune.pipeline.settle import settle
from edgeprune.pipeline.solve import RequestSolver
from edgeprune.pipeline.table import Run
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.scores import Scores

__all__ = ["RunSolver"]

SETTLING_ROUNDS = 3
"""Searches that follow one whose recipe, priced as a whole, misses a limit its parts were priced within."""


class RunSolver:
    """What a search of a run reads."""

    def __init__(self, run: Run) -> None:
        """Read the records.

        Raises:
            ModelError: one is missing or damaged.
        """
        folder = run.folder
        self._device = read_record(folder.device, DeviceProfile)
        self._scores = read_record(folder.scores, Scores)
        self._arrays = read_arrays(folder.scores_arrays)
        self._residuals = stored_residuals(run)
        self._asked: tuple[object, ...] = ()

    def solve(self, run: Run) -> SearchResult:
        """Solve for the request the run has now: its limits, context and locks.

        Raises:
            UsageError: a limit that cannot be resolved, or a lock that matches nothing.
        """
        solver, request = self._solver_of(run), run.request
        result, _ = settle(
            lambda region: solver.solve(request.budget, seed=request.seed, locks=request.locks, region=region),
            lambda answer: None if answer.chosen is None else answer.chosen.recipe,
            rounds=SETTLING_ROUNDS if self._residuals is not None else 0,
            is_good=lambda answer: answer.predicted != "not_met",
        )
        return with_measured(result, self._residuals)

    def _solver_of(self, run: Run) -> RequestSolver:
        """The one before, unless lengths, threads or what may be pruned have changed."""
        spec, workload = searched_spec(run), workload_of(run)
        asked = (spec, workload, run.request.uniform_kv)
        if asked != self._asked:
            self._solver = RequestSolver(
                device=self._device,
                spec=spec,
                scores=searched_scores(run, self._scores),
                arrays=self._arrays,
                workload=workload,
                residuals=self._residuals,
            )
            self._asked = asked
        return self._solver
