"""Searches from the records they read: plugs the price and the quality model into the solver.

Needs no weights and no torch, so a front door can solve again for another budget in well under a second.
"""

from msgspec.structs import replace

from edgeprune.pipeline.request import SMALLEST_CONTEXT
from edgeprune.pipeline.settings import BASELINES
from edgeprune.predict.accuracy import accuracy_model
from edgeprune.predict.cost import CostModel
from edgeprune.predict.general import general_quality_model
from edgeprune.predict.packed import saved_bytes
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget, BudgetRequest, Workload
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.lock import Lock
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.residuals import Residuals
from edgeprune.schema.scores import ScoreArrays, Scores
from edgeprune.search.baselines import plain_recipe
from edgeprune.search.budget import resolve_budget
from edgeprune.search.solve import search
from edgeprune.search.spaces import Spaces
from edgeprune.shapes import edit_shapes

__all__ = ["RequestSolver", "solve_request"]


class RequestSolver:
    """Solves one request after another; what does not depend on how much is allowed is made once."""

    def __init__(
        self,
        *,
        device: DeviceProfile,
        spec: ModelSpec,
        scores: Scores,
        arrays: ScoreArrays,
        workload: Workload,
        residuals: Residuals | None = None,
    ) -> None:
        """Prepare the prices.

        Args:
            device: what the prices are of.
            spec: the dense model, with the cache that whatever is found will have; percentages are of its float cache.
            scores: what calibration scored.
            arrays: beside the scores.
            workload: lengths and threads.
            residuals: what building recipes taught; None takes the scores as they are.
        """
        self._device, self._spec, self._workload = device, spec, workload
        self._scores, self._arrays, self._residuals = scores, arrays, residuals
        self._cost_model = CostModel(device, spec, workload, scores=scores)
        self._cost_models: dict[int, CostModel] = {}
        self._quality_models = self._quality_at(None)
        self._accuracy_model = accuracy_model(residuals)
        self._spaces = Spaces()

    def solve(
        self, request: BudgetRequest, *, seed: int, locks: tuple[Lock, ...] = (), region: Recipe | None = None
    ) -> SearchResult:
        """Resolve the limits a user wrote on the device and solve for them.

        Args:
            request: the limits.
            seed: of the solver.
            locks: choices that are fixed.
            region: the recipe near which corrections are taken; None is the mean of the recipes that were built.

        Raises:
            UsageError: a percentage of something the profile does not tell, or scores of another model.
        """
        quality_model, general_model = self._quality_models if region is None else self._quality_at(region)
        return search(
            self._spec,
            self._scores,
            self._arrays,
            cost_model=self._cost_model,
            cost_model_at=self._cost_model_at,
            quality_model=quality_model,
            general_model=general_model,
            accuracy_model=self._accuracy_model,
            budget=self._resolved(request, seed),
            workload=self._workload,
            device_name=self._device.name,
            seed=seed,
            locks=locks,
            spaces=self._spaces,
        )

    def _resolved(self, request: BudgetRequest, seed: int) -> Budget:
        dense, int8 = (
            plain_recipe(self._spec, BASELINES[label], context_tokens=self._workload.context_tokens, seed=seed)
            for label in ("dense", "int8")
        )
        plain = self._cost_model.cost(int8)
        # A default budget is judged by the bundle that is written: of what its graph is smaller, so is the limit.
        plain = replace(plain, disk_bytes=plain.disk_bytes - saved_bytes(edit_shapes(self._spec, int8)))
        return resolve_budget(
            request,
            self._cost_model.cost(dense),
            plain,
            floor_bytes=self._cost_model.floor_bytes,
            source_bytes=self._spec.source_bytes,
        )

    def _cost_model_at(self, tokens: int) -> CostModel | None:
        if tokens < max(SMALLEST_CONTEXT, self._workload.decode_tokens + 1):
            return None
        if tokens not in self._cost_models:
            self._cost_models[tokens] = self._cost_model.at_context(tokens)
        return self._cost_models[tokens]

    def _quality_at(self, region: Recipe | None) -> tuple[QualityModel, QualityModel | None]:
        of = (self._spec, self._scores, self._arrays, self._residuals)
        return QualityModel(*of, region=region), general_quality_model(*of, region=region)


def solve_request(
    request: BudgetRequest,
    *,
    device: DeviceProfile,
    spec: ModelSpec,
    scores: Scores,
    arrays: ScoreArrays,
    workload: Workload,
    seed: int,
    locks: tuple[Lock, ...] = (),
    residuals: Residuals | None = None,
    region: Recipe | None = None,
) -> SearchResult:
    """Solve a single request; arguments and errors are those of `RequestSolver` and its `solve`."""
    solver = RequestSolver(
        device=device, spec=spec, scores=scores, arrays=arrays, workload=workload, residuals=residuals
    )
    return solver.solve(request, seed=seed, locks=locks, region=region)
