"""What a recovery asked for in minutes is in steps: planned on this machine, written down, and used again.

The recipe holds the steps, so what is trained can be repeated anywhere. `recovery.json` holds what was planned in this
run, so that a run that goes on after a kill does not plan anew and train something else.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from edgeprune import __version__
from edgeprune.artifacts import hash_parts, read_record, write_record
from edgeprune.errors import ModelError, UsageError
from edgeprune.pipeline.evaluations import edits_hash
from edgeprune.pipeline.recipe_file import write_recipe_file
from edgeprune.pipeline.settings import dense_spec, read_recipe, workload_of
from edgeprune.pipeline.table import Run
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.events import Event, NullProgress, Progress
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.recovery import Recovery, RecoveryPlans, RecoveryRequest

if TYPE_CHECKING:
    from edgeprune.calibrate.statistics import CalibrationStats
    from edgeprune.intake.load import LoadedModel

__all__ = ["plan_recipe", "short_recovery", "with_recovery", "write_planned_recipe"]

SHORT_SHARE = 0.1
"""Of the final training that each recipe gets before the last choice among them."""


def plan_recipe(
    dense: "LoadedModel",
    recipe: Recipe,
    stats: "CalibrationStats",
    request: RecoveryRequest,
    *,
    texts: Path,
    progress: Progress,
    stage: str = "compress",
) -> Recipe:
    """A recipe with the recovery that takes the minutes asked for here; `stage` is who says so.

    Raises:
        UsageError: the minutes are too few for a step.
    """
    from edgeprune.compress.apply import compress_model  # torch
    from edgeprune.compress.recover.data import read_recovery_text
    from edgeprune.compress.recover.plan import plan_recovery

    bare = replace(recipe, recovery=None)
    progress.raise_if_cancelled()
    student = compress_model(dense, bare, stats, progress=NullProgress())
    text = read_recovery_text(texts, student, context_tokens=recipe.context_tokens)
    found = plan_recovery(student, dense, text, minutes=request.minutes, mode=request.mode, seed=recipe.seed)
    progress.emit(Event(kind="noted", stage=stage, message=f"recovery: {found} fit {request.minutes:g} minutes"))
    return replace(bare, recovery=found)


def with_recovery(run: Run, result: SearchResult) -> SearchResult:
    """A search's answer, its chosen recipe with the recovery the run asks for; as it is where it asks for none.

    Raises:
        UsageError: the minutes are too few for a step, or torch is not installed here.
    """
    if run.request.recovery is None or run.request.recipe is not None or result.chosen is None:
        return result
    before = result.chosen.recipe
    recipe = replace(before, recovery=_planned(run, before))
    front = tuple(
        replace(entry, recipe=recipe) if edits_hash(entry.recipe) == edits_hash(before) else entry
        for entry in result.front
    )
    return replace(result, chosen=replace(result.chosen, recipe=recipe), front=front)


def short_recovery(run: Run) -> Recovery | None:
    """What every recipe is trained alike before the last choice among them; None where no recovery is asked for.

    Planned on the dense model, which no recipe is slower than; nobody's dense model is trained before.
    """
    if run.request.recovery is None or run.request.recipe is not None:
        return None
    spec = dense_spec(run)
    plain = Recipe(model_hash=spec.model_hash, context_tokens=workload_of(run).context_tokens, seed=run.request.seed)
    full = _planned(run, plain)
    return replace(full, steps=_shortened(full.steps), block_steps=_shortened(full.block_steps), adapt_steps=0)


def write_planned_recipe(run: Run) -> Recipe:
    """Put the recovery that the run asks for into its recipe, and write it.

    Raises:
        UsageError: the recipe does not fit, or the minutes are too few for a step.
    """
    recipe = read_recipe(run)
    recipe = replace(recipe, recovery=_planned(run, replace(recipe, recovery=None), stage="compress"))
    write_recipe_file(run.folder.recipe, recipe)
    return recipe


def _planned(run: Run, recipe: Recipe, *, stage: str = "refine") -> Recovery:
    """The plan for a recipe without one, made once in a run folder."""
    request, folder = run.request.recovery, run.folder
    assert request is not None
    known = _known(folder.recovery_plans)
    stats_hash, texts_hash = run.hash_of(folder.stats), run.hash_of(folder.texts)
    key = hash_parts(
        __version__, edits_hash(recipe), recipe.seed, recipe.context_tokens, request, stats_hash, texts_hash
    )
    if key not in known.plans:
        try:
            from edgeprune.calibrate.statistics import CalibrationStats
            from edgeprune.intake.load_once import load_once
        except ImportError as error:
            raise UsageError(
                "--recover-minutes needs torch, which is not installed here; run this where edgeprune[compress] is."
            ) from error
        from edgeprune.intake.source import resolve_model

        assert run.request.model is not None
        dense = load_once(str(resolve_model(run.request.model)), dense_spec(run).model_hash)
        stats = CalibrationStats.load(folder.stats)
        planned = plan_recipe(
            dense, recipe, stats, request, texts=folder.texts, progress=run.progress, stage=stage
        ).recovery
        assert planned is not None
        known = replace(known, plans={**known.plans, key: planned})
        write_record(folder.recovery_plans, known)
    return known.plans[key]


def _known(path: Path) -> RecoveryPlans:
    try:
        return read_record(path, RecoveryPlans)
    except ModelError:  # never written, or damaged: planned anew
        return RecoveryPlans()


def _shortened(count: int) -> int:
    return max(1, round(SHORT_SHARE * count)) if count else 0
