"""`rivals`: our front against random search, TPE and each single technique, at the same number of real evaluations.

An evaluation builds a recipe in torch and measures it on a slice of selection text. Every searcher keeps the recipes
no other of its own beats there in disk and loss; those are then judged by the hypervolume they dominate on report text
that none of them selected on. Reference point: the dense model's bytes and two nats more than its loss. Statistics are
renewed on a sixteenth of the calibration text, the same for all, so that an evaluation takes seconds.
"""

import dataclasses
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import optuna

from edgeprune.compress.apply import compress_model
from edgeprune.compress.techniques.table import technique_recipe
from edgeprune.errors import UsageError
from edgeprune.pipeline.evaluations import edits_hash
from edgeprune.pipeline.variants import choose_without
from edgeprune.predict.quality import QualityModel
from edgeprune.predict.residual import fit_surrogate
from edgeprune.schema.budget import Budget
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.residuals import Evaluation, Residuals
from edgeprune.search.baselines import plain_recipe
from tests.bench.search_claims import Claims
from tests.bench.search_encode import recipe_from
from tests.bench.search_lab import Lab, Loss, open_lab

__all__ = ["run"]

EVALUATIONS = 20
SEEDS = (0, 1, 2)
WORST_NATS = 2.0
SMALLEST, LARGEST = 0.15, 1.0
"""Our disk limits as shares of plain int8's size."""
KERNEL_STEPS = ("int8_b32_a4", "int8_b128_a4", "int4_b32_a4", "int4_b64_a4", "int4_b128_a4", "fp16")


@dataclass(frozen=True)
class Point:
    """One evaluated recipe."""

    recipe: Recipe
    disk_bytes: int
    selected_nats: float
    reported_nats: float


@dataclass
class Evaluator:
    """Builds and measures; a recipe met again is not built twice, but counts."""

    lab: Lab
    selection: Loss
    report: Loss
    known: dict[str, Point] = field(default_factory=dict)

    def __call__(self, recipe: Recipe) -> Point:
        key = edits_hash(recipe)
        if key not in self.known:
            short = dataclasses.replace(self.lab.stats, tokens=self.lab.stats.tokens[: max(1, TOKENS // 256)])
            model = compress_model(self.lab.loaded, recipe, short, progress=NullProgress())
            size = self.lab.problem().cost_model.cost(recipe).disk_bytes
            self.known[key] = Point(recipe, size, self.selection.increase(model), self.report.increase(model))
        return self.known[key]


TOKENS = 2048


def run(claims: Claims, *, quick: bool) -> None:
    lab = open_lab(quick=quick)
    if lab is None:
        print("  EDGEPRUNE_LAB is not set: left out", file=sys.stderr)
        return
    count, seeds = (2, SEEDS[:1]) if quick else (EVALUATIONS, SEEDS)
    size = 256 if quick else TOKENS
    evaluate = Evaluator(lab, lab.loss("select", limit_tokens=size), lab.loss("report", limit_tokens=2 * size))
    dense_bytes = lab.problem().cost_model.cost(plain_recipe(lab.spec, "fp32", context_tokens=256, seed=0)).disk_bytes
    ours = our_points(lab, evaluate, count)
    rows: list[dict[str, object]] = [_row("ours", ours, dense_bytes, None)]
    own = hypervolume(ours, dense_bytes)
    ratios: dict[str, list[float]] = {}

    def compare(name: str, points: Sequence[Point]) -> None:
        theirs = hypervolume(points, dense_bytes)
        ratio = float("inf") if theirs == 0.0 else own / theirs
        ratios.setdefault(name, []).append(ratio)
        rows.append(_row(name, points, dense_bytes, ratio))

    for seed in seeds:
        for space in ("full", "roles"):
            compare(f"random, {space}", random_points(lab, evaluate, count, seed=seed, space=space))
            compare(f"TPE, {space}", tpe_points(lab, evaluate, count, seed=seed, space=space))
    for technique in ("laser", "lowrank", "lorp", "contextual", "bits"):
        compare(technique, single_points(lab, evaluate, count, technique=technique))
    claims.keep("rivals", rows)
    for name, found in ratios.items():
        text = f"hypervolume of our front / of {name}, least of {len(found)}, {count} evaluations each"
        least = min(found)
        claims.judge("rivals", text, least, f"{least:.3f}", "> 1", least > 1.0)


def our_points(lab: Lab, evaluate: Evaluator, count: int) -> list[Point]:
    """Every second size as predicted; then the sizes between, after the surrogate has learned from the first."""
    problem = lab.problem()
    plain = problem.cost_model.cost(plain_recipe(lab.spec, "int8_b32_a4", context_tokens=256, seed=0)).disk_bytes
    scored = QualityModel(lab.spec, lab.scores, lab.arrays)
    residuals: Residuals | None = None
    points: list[Point] = []
    shares = np.geomspace(LARGEST, SMALLEST, count)
    for part in (shares[::2], shares[1::2]):
        for share in part:
            region: Recipe | None = None
            for _ in range(1 if residuals is None else 3):
                chosen = choose_without(
                    frozenset(),
                    budget=Budget(disk_bytes=round(float(share) * plain)),
                    cost_model=problem.cost_model,
                    spec=lab.spec,
                    scores=lab.scores,
                    arrays=lab.arrays,
                    workload=lab.workload,
                    seed=0,
                    residuals=residuals,
                    region=region,
                )
                if chosen is None:
                    break
                region = chosen.recipe
            if region is not None:
                points.append(evaluate(region))
        sums = [scored.family_losses(point.recipe) or {} for point in points]
        _, fit = fit_surrogate(sums, [point.selected_nats for point in points])
        residuals = Residuals(
            model_hash=lab.spec.model_hash,
            scores_hash="",
            evaluations=tuple(_evaluation(lab, point) for point in points),
            fit=fit,
        )
    return points


def random_points(lab: Lab, evaluate: Evaluator, count: int, *, seed: int, space: str) -> list[Point]:
    """Every choice drawn evenly."""
    draw = random.Random(seed)
    points = []
    for _ in range(count):
        taken: dict[str, int] = {}

        def pick(name: str, options: int, taken: dict[str, int] = taken) -> int:
            return taken.setdefault(name, draw.randrange(options))

        points.append(evaluate(recipe_from(lab, pick, space=space)))
    return points


def tpe_points(lab: Lab, evaluate: Evaluator, count: int, *, seed: int, space: str) -> list[Point]:
    """Optuna's multi-objective TPE over disk and loss."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    points: list[Point] = []

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        def pick(name: str, options: int) -> int:
            return trial.suggest_int(name, 0, options - 1)

        points.append(evaluate(recipe_from(lab, pick, space=space)))
        return float(points[-1].disk_bytes), points[-1].selected_nats

    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(1, count // 2))
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.optimize(objective, n_trials=count)
    return points


def single_points(lab: Lab, evaluate: Evaluator, count: int, *, technique: str) -> list[Point]:
    """A technique at evenly spaced fractions of the parameters it can keep; `bits` is every plain kernel."""
    recipes: dict[str, Recipe] = {}
    if technique == "bits":
        found = [plain_recipe(lab.spec, kernel, context_tokens=256, seed=0) for kernel in KERNEL_STEPS[:count]]
        recipes = {edits_hash(recipe): recipe for recipe in found}
    for kept in np.linspace(0.98, 0.3, count) if technique != "bits" else ():
        try:
            recipe = technique_recipe(
                lab.spec,
                technique,
                float(kept),
                scores=lab.scores,
                arrays=lab.arrays,
                context_tokens=256,
                stats=lab.stats,
                loaded=lab.loaded,
            )
        except UsageError:
            continue  # it cannot keep as little
        recipes.setdefault(edits_hash(recipe), recipe)
    return [evaluate(recipe) for recipe in recipes.values()]


def hypervolume(points: Sequence[Point], dense_bytes: int) -> float:
    """Share of the rectangle up to the reference point that the selected front dominates on report text."""
    front = [
        point
        for point in points
        if not any(
            other is not point
            and other.disk_bytes <= point.disk_bytes
            and other.selected_nats <= point.selected_nats
            and (other.disk_bytes, other.selected_nats) != (point.disk_bytes, point.selected_nats)
            for other in points
        )
    ]
    corners = sorted((point.disk_bytes / dense_bytes, max(0.0, point.reported_nats) / WORST_NATS) for point in front)
    area, height = 0.0, 1.0
    for size, loss in corners:
        if size < 1.0 and loss < height:
            area += (1.0 - size) * (height - loss)
            height = loss
    return area


def _row(name: str, points: Sequence[Point], dense_bytes: int, ratio: float | None) -> dict[str, object]:
    good = [point.disk_bytes / 1e6 for point in points if point.reported_nats <= 0.1]
    return {
        "searcher": name,
        "recipes": len({edits_hash(point.recipe) for point in points}),
        "hypervolume": hypervolume(points, dense_bytes),
        "ours / theirs": ratio,
        "smallest MB within 0.1 nats": min(good, default=None),
    }


def _evaluation(lab: Lab, point: Point) -> Evaluation:
    key = edits_hash(point.recipe)
    return Evaluation(
        key=key,
        recipe_hash=key,
        recipe=point.recipe,
        loss_increase_nats=point.selected_nats,
        relative_loss=point.selected_nats / QualityModel(lab.spec, lab.scores, lab.arrays).dense_loss_nats,
        token_limit=TOKENS,
        scored_tokens=TOKENS,
    )
