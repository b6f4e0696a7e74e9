"""Explains the recipe of a run, or one in a file: the records of the run, without weights and without torch."""

from pathlib import Path

from msgspec.structs import replace

from edgeprune.artifacts import read_arrays, read_record
from edgeprune.errors import UsageError
from edgeprune.pipeline.recipe_file import read_recipe_file
from edgeprune.pipeline.settings import dense_spec, stored_residuals, workload_of
from edgeprune.pipeline.table import Run
from edgeprune.predict.accuracy import accuracy_model
from edgeprune.predict.cost import CostModel
from edgeprune.predict.general import general_quality_model
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.explanation import Explanation
from edgeprune.schema.scores import Scores
from edgeprune.search.explanation import explain_recipe
from edgeprune.search.problem import Problem
from edgeprune.shapes import with_kv_bits

__all__ = ["explain_run"]


def explain_run(run: Run, *, recipe_path: Path | None = None) -> Explanation:
    """Explain the recipe of a run, or another one for the same model, against the run's search.

    Raises:
        UsageError: the recipe does not fit the model (with its line), or the search found nothing to compare with.
    """
    folder = run.folder
    if not folder.front.is_file():
        raise UsageError(f"{folder.root} holds no {folder.front.name} yet; run `edgeprune search {folder.root}` first.")
    result = read_record(folder.front, SearchResult)
    spec, workload = dense_spec(run), workload_of(run)
    path = folder.recipe if recipe_path is None else recipe_path
    if result.chosen is None:
        why = "" if result.infeasible is None else f" ({result.infeasible.message.rstrip('.')})"
        raise UsageError(
            f"The search of {folder.root} found no recipe{why}, so there is no choice to explain; search again with a "
            "budget that can be met."
        )
    recipe = read_recipe_file(path, spec, context_tokens=workload.context_tokens)
    scores, arrays = read_record(folder.scores, Scores), read_arrays(folder.scores_arrays)
    residuals = stored_residuals(run)
    spec = replace(spec, blocks=with_kv_bits(spec.blocks, recipe.kv_bits))
    problem = Problem(
        spec=spec,
        scores=scores,
        cost_model=CostModel(read_record(folder.device, DeviceProfile), spec, workload, scores=scores),
        quality_model=QualityModel(spec, scores, arrays, residuals, region=result.chosen.recipe),
        general_model=general_quality_model(spec, scores, arrays),
        accuracy_model=accuracy_model(residuals),
        budget=result.budget,
        context_tokens=workload.context_tokens,
        decode_tokens=workload.decode_tokens,
        seed=run.request.seed,
        locks=result.locks,
    )
    return explain_recipe(problem, recipe, optimum=result.chosen, source=str(path), device_name=result.device_name)
