"""`loss`: predicted against measured domain loss on recipes that nothing was fitted on.

Recipes are solver outputs at random limits, some without one family of edits, so that they differ in kind and not in
size alone. Each is built and measured on selection text beyond what the scores were measured on, and predicted twice:
from the scores alone, and by the surrogate fitted to all the other recipes.
"""

import random
import sys

import numpy as np

from edgeprune.compress.evaluate import evaluate
from edgeprune.pipeline.evaluations import edits_hash
from edgeprune.pipeline.variants import choose_without
from edgeprune.predict.quality import QualityModel
from edgeprune.predict.residual import FAMILIES, fit_surrogate, median_relative_error, spearman
from edgeprune.schema.budget import Budget
from edgeprune.schema.recipe import Recipe
from edgeprune.search.baselines import plain_recipe
from tests.bench.search_claims import Claims
from tests.bench.search_lab import Lab, open_lab

__all__ = ["diverse_recipes", "run"]

COUNT = 28
SMALLEST, LARGEST = 0.15, 0.7
"""Disk limits as shares of plain int8."""
MAX_LOSS = 0.4
"""Relative loss predicted at most: beyond, a model is of no use."""
LEFT_OUT = ((), ("depth",), ("channels",), ("lowrank", "laser"), ("int4",), ("vocabulary",), ("depth", "vocabulary"))


def run(claims: Claims, *, quick: bool) -> None:
    lab = open_lab(quick=quick)
    if lab is None:
        print("  EDGEPRUNE_LAB is not set: left out", file=sys.stderr)
        return
    recipes = diverse_recipes(lab, 4 if quick else COUNT)
    quality = QualityModel(lab.spec, lab.scores, lab.arrays)
    measured, sums = [], []
    for recipe in recipes:
        measured.append(evaluate(lab.task(recipe, token_limit=2048 if quick else 16_384)).loss_increase_nats)
        found = quality.family_losses(recipe)
        assert found is not None  # the solver chose scored edits only
        sums.append(found)
    table = np.array([[one[family] for family in FAMILIES] for one in sums])
    truth = np.array(measured)
    plain = table.sum(axis=1)
    left_out = np.array(
        [
            fit_surrogate(_without(sums, index), _without(measured, index))[0].total(sums[index])
            for index in range(len(recipes))
        ]
    )
    rows: list[dict[str, object]] = []
    for recipe, sum_nats, fitted, real, parts in zip(recipes, plain, left_out, truth, table, strict=True):
        largest = np.argsort(-parts)[:3]
        rows.append(
            {
                "measured": float(real),
                "scores alone": float(sum_nats),
                "left out": float(fitted),
                "error": float(fitted / real - 1.0) if real > 0.0 else None,
                "blocks": len(lab.spec.blocks) - len(recipe.drop_blocks),
                "mostly": ", ".join(f"{FAMILIES[at]} {parts[at]:.3f}" for at in largest if parts[at] > 0.0),
            }
        )
    rows.sort(key=lambda row: float(str(row["measured"])))
    claims.keep("loss", rows)
    alone = median_relative_error(plain, truth)
    print(f"  scores alone: Spearman {spearman(plain, truth):.3f}, median error {alone:.1%}")
    text = f"{len(recipes)} built recipes, each predicted from the others"
    claims.above("loss", f"{text}: Spearman", spearman(left_out, truth), 0.95)
    claims.below("loss", f"{text}: median error of the increase", median_relative_error(left_out, truth), 0.20)
    claims.above("loss", "recipes built", float(len(recipes)), 20.0)


def diverse_recipes(lab: Lab, count: int) -> list[Recipe]:
    """Solver outputs at random disk, latency and memory limits, none twice."""
    draw = random.Random(1)
    problem = lab.problem()
    plain = problem.cost_model.cost(plain_recipe(lab.spec, "int8_b32_a4", context_tokens=256, seed=0))
    found: dict[str, Recipe] = {}
    attempt = 0
    while len(found) < count and attempt < 20 * count:
        without = LEFT_OUT[attempt % len(LEFT_OUT)]
        attempt += 1
        share = SMALLEST * (LARGEST / SMALLEST) ** draw.random()
        chosen = choose_without(
            frozenset(without),
            budget=Budget(disk_bytes=round(share * plain.disk_bytes)),
            cost_model=problem.cost_model,
            spec=lab.spec,
            scores=lab.scores,
            arrays=lab.arrays,
            workload=lab.workload,
            seed=0,
        )
        if chosen is not None and chosen.relative_loss <= MAX_LOSS:
            found.setdefault(edits_hash(chosen.recipe), chosen.recipe)
    return list(found.values())


def _without(values: list, index: int) -> list:
    return [value for position, value in enumerate(values) if position != index]
