"""The technique `auto` at a kept fraction of the parameters: every family of edits at once, built and measured.

The search of a run, with stored parameters in the place of a device: the limit is on their number, every kernel stays
float32, and what is made least is the loss on the domain. Up to `evaluations` recipes are really built and measured on
selection text, what they teach is fed back, and the best of those measured on most text is taken; it ends with `refit`.
Text that reports are made on is never read.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from edgeprune.artifacts import RunFolder, hash_file, hash_parts, read_arrays, read_record
from edgeprune.errors import UsageError
from edgeprune.pipeline.evaluations import REFRESH_TOKENS, EvaluationStore, keyed
from edgeprune.pipeline.refinement import Refined, Tools, refine
from edgeprune.pipeline.table import hash_tree
from edgeprune.pipeline.variants import choose_without
from edgeprune.predict.general import general_quality_model
from edgeprune.predict.parameters import PARAMETER_BYTES, ParameterCost
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget, Workload
from edgeprune.schema.candidate import Candidate, SearchResult
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.model import ModelSpec, SiteForm
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.residuals import Evaluation, EvaluationTask, Residuals
from edgeprune.schema.scores import Scores
from edgeprune.search.solve import search
from edgeprune.units import format_fraction

__all__ = ["EVALUATIONS", "TECHNIQUE", "joint_recipe"]

TECHNIQUE = "auto"
EVALUATIONS = 10
"""Recipes built at most: a round of five, another of two, and three on most text."""
WINDOW_TOKENS = 256
"""Tokens of a window whose loss is measured, as calibration and validation cut them."""
SLICE_TOKENS = 4_096
FULL_TOKENS = 16_384
RANK_STEP = 8
"""No device tells which ranks are quick, so they stand as close together as for one technique alone."""
RANK_FORM: SiteForm = "pivot"
"""In float32 the same matrix as two factors, in rank^2 numbers less."""


def joint_recipe(
    model: Path,
    spec: ModelSpec,
    kept_fraction: float,
    *,
    folder: RunFolder,
    context_tokens: int,
    seed: int,
    progress: Progress,
    evaluations: int = EVALUATIONS,
) -> Recipe:
    """The recipe of least measured loss that keeps at most that fraction of the parameters.

    Args:
        model: folder of the dense model.
        spec: its shapes.
        kept_fraction: stored parameters / the dense model's, tied tables once.
        folder: of a calibration: statistics, scores, arrays and texts; finished evaluations are kept there.
        context_tokens: kept in the recipe.
        seed: kept in the recipe, and of the solver.
        progress: told of every recipe built.
        evaluations: recipes built at most; 0 takes the predictions as they are.

    Raises:
        UsageError: no combination of what was scored is that small.
    """
    refined = _refined(
        model, spec, kept_fraction, folder=folder, context_tokens=context_tokens, seed=seed, progress=progress,
        evaluations=evaluations,
    )  # fmt: skip
    chosen = refined.result.chosen
    if chosen is None:
        smallest = min(entry.cost.parameter_count for entry in refined.result.front) / spec.parameter_count
        raise UsageError(
            f"No combination of what was scored keeps as little as {format_fraction(kept_fraction)} of the "
            f"parameters; the smallest keeps {format_fraction(smallest)}. Raise --kept."
        )
    return replace(chosen.recipe, refit=True)


def _refined(
    model: Path,
    spec: ModelSpec,
    kept_fraction: float,
    *,
    folder: RunFolder,
    context_tokens: int,
    seed: int,
    progress: Progress,
    evaluations: int,
) -> Refined:
    scores, arrays = read_record(folder.scores, Scores), read_arrays(folder.scores_arrays)
    cost_model = ParameterCost(spec)
    workload = Workload(context_tokens=context_tokens)
    budget = Budget(disk_bytes=PARAMETER_BYTES * round(kept_fraction * spec.parameter_count))

    def solve(residuals: Residuals | None, region: Recipe | None, scale: float) -> SearchResult:
        progress.raise_if_cancelled()
        return search(
            spec,
            scores,
            arrays,
            cost_model=cost_model,
            quality_model=QualityModel(spec, scores, arrays, residuals, region=region),
            general_model=general_quality_model(spec, scores, arrays, residuals, region=region),
            budget=budget,
            workload=workload,
            device_name="any device",
            seed=seed,
            rank_step=RANK_STEP,
            rank_form=RANK_FORM,
        )

    def choose(
        residuals: Residuals | None,
        region: Recipe | None,
        scale: float,
        families: frozenset[str],
        excluded: Sequence[Recipe],
    ) -> Candidate | None:
        progress.raise_if_cancelled()
        return choose_without(
            families,
            excluded=excluded,
            budget=budget,
            cost_model=cost_model,
            spec=spec,
            scores=scores,
            arrays=arrays,
            workload=workload,
            seed=seed,
            residuals=residuals,
            region=region,
            rank_step=RANK_STEP,
            rank_form=RANK_FORM,
        )

    return refine(
        Tools(
            solve=solve,
            choose=choose,
            quality=lambda residuals: QualityModel(spec, scores, arrays, residuals),
            general=general_quality_model(spec, scores, arrays),
            measure=_measure(model, spec, folder, progress, evaluations),
            empty=Residuals(
                model_hash=spec.model_hash,
                scores_hash=hash_parts(hash_file(folder.scores), hash_file(folder.scores_arrays)),
            ),
        ),
        limit=evaluations,
    )


def _measure(
    model: Path, spec: ModelSpec, folder: RunFolder, progress: Progress, limit: int
) -> Callable[[Sequence[Recipe], bool], list[Evaluation]]:
    """Evaluations from the folder's store, the missing ones made in this process."""
    from edgeprune.compress.evaluate import evaluate  # torch

    store = EvaluationStore(folder)
    common = functools.partial(
        EvaluationTask,
        key="",
        recipe_hash="",
        model=str(model),
        model_hash=spec.model_hash,
        stats=str(folder.stats.absolute()),
        stats_hash=hash_file(folder.stats),
        refresh_tokens=REFRESH_TOKENS,
        texts=str(folder.texts.absolute()),
        texts_hash=hash_tree(folder.texts),
    )
    count = 0

    def one(recipe: Recipe, is_full: bool) -> Evaluation:
        nonlocal count
        window_tokens = min(recipe.context_tokens, spec.max_positions, WINDOW_TOKENS)
        limit_tokens = FULL_TOKENS if is_full else SLICE_TOKENS
        # Fitting again takes as long as all else; it is left to the finalists, whose order it may change.
        edited = replace(recipe, refit=is_full)
        task = keyed(common(window_tokens=window_tokens, token_limit=limit_tokens, recipe=edited))
        found = store.get(task.key)
        if found is None:
            found = evaluate(task, progress=progress)
            store.put(found)
        count += 1
        progress.emit(
            Event(
                kind="stage_advanced",
                stage="compress",
                message=f"recipe {count} of at most {limit} built: loss {found.relative_loss:+.1%} on selection text",
                done_fraction=min(1.0, count / limit),
            )
        )
        progress.raise_if_cancelled()
        return replace(found, recipe=recipe)

    return lambda recipes, is_full: [one(recipe, is_full) for recipe in recipes]
