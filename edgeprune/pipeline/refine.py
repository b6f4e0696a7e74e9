"""The stage `refine`: recipes are built and measured, and the search is solved again with what they taught.

Reads what the search reads and, unless no evaluations are allowed, the texts and statistics of the calibration.
Writes the final front and recipe, and `residuals.json`. Each finished evaluation is written at once, so that a run
killed at any moment repeats none.
"""

import importlib.util
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from edgeprune.artifacts import atomic_write, read_arrays, read_record, write_record
from edgeprune.errors import InfeasibleBudgetError, UsageError
from edgeprune.pipeline.device_stages import keep_edited_recipe, search_inputs
from edgeprune.pipeline.evaluations import REFRESH_TOKENS, EvaluationStore, edits_hash, keyed
from edgeprune.pipeline.recipe_file import write_recipe_file
from edgeprune.pipeline.recovery import short_recovery, with_recovery
from edgeprune.pipeline.refinement import Tools, refine
from edgeprune.pipeline.settings import (
    dense_spec,
    scores_hash,
    searched_scores,
    searched_spec,
    stored_residuals,
    workload_of,
)
from edgeprune.pipeline.table import Run
from edgeprune.schema.budget import Budget, BudgetRequest
from edgeprune.schema.candidate import Candidate, SearchResult
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.events import Event
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.residuals import Evaluation, EvaluationTask, Residuals
from edgeprune.schema.scores import Scores
from edgeprune.units import format_bytes, format_seconds

__all__ = ["built", "refine_inputs", "refine_stage"]

B = TypeVar("B", Budget, BudgetRequest)

FUNCTION = "edgeprune.compress.evaluate:evaluate_bytes"
WINDOW_TOKENS = 256
"""Tokens of a window whose loss is measured, as calibration and validation cut them."""
SLICE_TOKENS = 4_096
"""Of the domain's selection text: what calibration measures its own edits on."""
FULL_TOKENS = 16_384
GENERAL_TOKENS = 4_096
"""Of general selection text, measured beside the full domain text."""


def refine_inputs(run: Run) -> list[object]:
    """What the search reads; with evaluations also what recipes are built from and measured on."""
    count = _limit(run)
    built_from = [run.folder.stats, run.folder.texts] if count else []
    if count and run.request.questions is not None and run.request.budget.min_accuracy is not None:
        built_from.append(Path(run.request.questions))
    recovery = run.request.recovery
    wanted = [] if recovery is None else [recovery]
    return [*search_inputs(run), count, *(run.hash_of(path) for path in built_from), *wanted]


def refine_stage(run: Run) -> str:
    """Build, measure, learn and solve until the answer stands still.

    Raises:
        InfeasibleBudgetError: no recipe that was built is within the budget; the front is written all the same.
        UsageError: recipes must be built, and torch is not installed.
    """
    run.loaded = None  # evaluations keep a dense model of their own
    folder = run.folder
    try:
        refined = refine(_tools(run), limit=_limit(run))
        result, residuals = with_recovery(run, refined.result), refined.residuals
    finally:
        _forget()
    if residuals.evaluations or stored_residuals(run) is None:
        write_record(folder.residuals, residuals)  # what was learned for another budget outlives a search without
    if run.request.recipe is not None:
        write_record(folder.front, result)
        return "a recipe was given, so none was built to choose from"
    if result.chosen is not None:
        keep_edited_recipe(run, result.chosen)
        write_recipe_file(folder.recipe, result.chosen.recipe)
    write_record(folder.front, result)
    if result.chosen is None:
        message = "" if result.infeasible is None else result.infeasible.message
        raise InfeasibleBudgetError(message or "No recipe meets the budget.")
    return _summary(result.chosen, residuals)


def _limit(run: Run) -> int:
    """Evaluations allowed; a recipe that is run as written needs none."""
    return 0 if run.request.recipe is not None else run.request.evaluations


def _tools(run: Run) -> Tools:
    from edgeprune.pipeline.solve import solve_request  # the solver's library loads with it
    from edgeprune.pipeline.variants import choose_without
    from edgeprune.predict.cost import CostModel
    from edgeprune.predict.general import general_quality_model
    from edgeprune.predict.quality import QualityModel

    folder, request = run.folder, run.request
    device = read_record(folder.device, DeviceProfile)
    spec, workload = searched_spec(run), workload_of(run)
    scores, arrays = searched_scores(run, read_record(folder.scores, Scores)), read_arrays(folder.scores_arrays)
    cost_model = CostModel(device, spec, workload, scores=scores)
    resolved: list[SearchResult] = []

    def solve(residuals: Residuals | None, region: Recipe | None, scale: float) -> SearchResult:
        run.progress.raise_if_cancelled()
        found = solve_request(
            _scaled(request.budget, scale),
            device=device,
            spec=spec,
            scores=scores,
            arrays=arrays,
            workload=workload,
            seed=request.seed,
            locks=request.locks,
            residuals=residuals,
            region=region,
        )
        resolved.append(found)
        return found

    def choose(
        residuals: Residuals | None,
        region: Recipe | None,
        scale: float,
        families: frozenset[str],
        excluded: Sequence[Recipe],
    ) -> Candidate | None:
        run.progress.raise_if_cancelled()
        return choose_without(
            families,
            excluded=excluded,
            budget=_scaled(resolved[0].budget, scale),  # percentages are resolved by the first search
            cost_model=cost_model,
            spec=spec,
            scores=scores,
            arrays=arrays,
            workload=workload,
            seed=request.seed,
            locks=request.locks,
            residuals=residuals,
            region=region,
        )

    return Tools(
        solve=solve,
        choose=choose,
        quality=lambda residuals: QualityModel(spec, scores, arrays, residuals),
        general=general_quality_model(spec, scores, arrays),
        measure=_measure(run),
        empty=Residuals(model_hash=spec.model_hash, scores_hash=scores_hash(run)),
        recovers=run.request.recovery is not None,
    )


def _scaled(budget: B, scale: float) -> B:
    """A budget with its limits on loss scaled; infinity takes every limit on quality away."""
    if scale == math.inf:
        return replace(budget, max_loss=None, max_general_loss=None, min_accuracy=None, objective="loss")
    loss, general = budget.max_loss, budget.max_general_loss
    return replace(
        budget,
        max_loss=None if loss is None else loss * scale,
        max_general_loss=None if general is None else general * scale,
    )


def _measure(run: Run) -> Callable[[Sequence[Recipe], bool], list[Evaluation]]:
    """Evaluations from the store, and from the executor where they are missing."""
    store = EvaluationStore(run.folder)
    limit = run.request.evaluations
    short = short_recovery(run) if limit else None
    count = 0

    def measure(recipes: Sequence[Recipe], is_full: bool) -> list[Evaluation]:
        nonlocal count
        trained = [replace(recipe, recovery=short) for recipe in recipes] if is_full else recipes
        tasks = [_task(run, recipe, is_full=is_full) for recipe in trained]
        found = {task.key: done for task in tasks if (done := store.get(task.key)) is not None}
        missing = list({task.key: task for task in tasks if task.key not in found}.values())
        count += len(found)
        for evaluation in built(run, missing):
            store.put(evaluation)  # before anything else, so that a run killed now does not repeat it
            found[evaluation.key] = evaluation
            count += 1
            text = "all of the selection text" if is_full else "a slice of the selection text"
            text += ", shortly trained" if is_full and short is not None else ""
            run.progress.emit(
                Event(
                    kind="stage_advanced",
                    stage="refine",
                    message=f"recipe {count} of at most {limit} built: loss {evaluation.relative_loss:+.1%} on {text}",
                    done_fraction=min(1.0, count / limit),
                )
            )
            run.progress.raise_if_cancelled()
        # A stored evaluation may carry other labels; what is recorded must not depend on which came first.
        return [
            replace(found[task.key], recipe=recipe, recipe_hash=edits_hash(recipe))
            for task, recipe in zip(tasks, recipes, strict=True)
        ]

    return measure


def built(run: Run, tasks: Sequence[EvaluationTask]) -> Iterator[Evaluation]:
    """Evaluations as they finish.

    Raises:
        UsageError: torch is not installed here, and no cluster was named.
    """
    if not tasks:
        return
    if run.request.cluster is None and importlib.util.find_spec("torch") is None:
        raise UsageError(
            "Recipes are built with torch, which is not installed here; give --evaluations 0, run this where "
            "edgeprune[compress] is installed, or name a cluster with --cluster."
        )
    payloads = [msgspec.json.encode(task, order="deterministic") for task in tasks]
    for _, data in run.executor().run(FUNCTION, payloads):
        yield msgspec.json.decode(data, type=Evaluation)


def _task(run: Run, recipe: Recipe, *, is_full: bool) -> EvaluationTask:
    from edgeprune.intake.source import resolve_model  # reaches for the hub only when the name is no folder

    assert run.request.model is not None
    spec = dense_spec(run)
    folder, budget = run.folder, run.request.budget
    questions = _selection_questions(run)
    asks_general = is_full or budget.max_general_loss is not None
    return keyed(
        EvaluationTask(
            key="",
            recipe_hash="",
            model=str(resolve_model(run.request.model)),
            model_hash=spec.model_hash,
            stats=str(folder.stats.absolute()),
            stats_hash=run.hash_of(folder.stats),
            refresh_tokens=REFRESH_TOKENS,
            texts=str(folder.texts.absolute()),
            texts_hash=run.hash_of(folder.texts),
            window_tokens=min(workload_of(run).context_tokens, spec.max_positions, WINDOW_TOKENS),
            token_limit=FULL_TOKENS if is_full else SLICE_TOKENS,
            general_token_limit=GENERAL_TOKENS if asks_general else 0,
            questions=None if questions is None else str(questions),
            questions_hash=None if questions is None else run.hash_of(questions),
            recipe=recipe,
        )
    )


def _selection_questions(run: Run) -> Path | None:
    """The half of the questions that recipes are judged by, written down; None without a limit on accuracy."""
    request = run.request
    if request.questions is None or request.budget.min_accuracy is None:
        return None
    from edgeprune.calibrate.questions import read_questions, split_questions  # neither imports torch

    selected, _ = split_questions(read_questions(Path(request.questions)))
    if not selected:
        raise UsageError(
            f"{request.questions} holds one question; --min-accuracy selects on half of the questions and reports on "
            "the other, so give at least two."
        )
    lines = b"".join(msgspec.json.encode(question) + b"\n" for question in selected)
    target = run.folder.root.absolute() / "questions.select.jsonl"
    if not target.is_file() or target.read_bytes() != lines:
        atomic_write(target, lines)
    return target


def _forget() -> None:
    """Free the dense model that evaluations in this process kept."""
    module = sys.modules.get("edgeprune.compress.evaluate")
    if module is not None:
        module.forget()


def _summary(chosen: Candidate, residuals: Residuals) -> str:
    cost, fit = chosen.cost, residuals.fit
    sizes = (
        f"{format_bytes(cost.disk_bytes)} on disk, {format_bytes(cost.peak_rss_bytes.value)} peak, "
        f"{format_seconds(cost.decode_s.value)} a token"
    )
    if chosen.measured_relative_loss is None:
        return f"no recipe was built; {sizes}, loss {chosen.relative_loss:+.1%} predicted"
    median = None if fit is None else fit.median_relative_error
    error = "" if median is None else f"; increases of recipes left out are predicted to {median:.0%}"
    return (
        f"{len(residuals.evaluations)} recipes built; {sizes}, loss {chosen.measured_relative_loss:+.1%} measured, "
        f"{chosen.relative_loss:+.1%} predicted{error}"
    )
