"""`exact`: on a model of three blocks, the solver's choice against every recipe of its menu, really built and measured.

Both see the same selection text. The solver is judged as it is used, with a dozen evaluations to verify and refine,
and shown without any. Limits hold as predicted for the solver and for brute force alike.
"""

import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeprune.calibrate.corpus import read_split
from edgeprune.calibrate.loss import cut_windows, measure_loss
from edgeprune.calibrate.run import CalibrationResult
from edgeprune.compress.apply import compress_model
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.pipeline.evaluations import edits_hash
from edgeprune.pipeline.refinement import Refined, Tools, refine
from edgeprune.pipeline.solve import solve_request
from edgeprune.pipeline.variants import choose_without
from edgeprune.predict.cost import CostModel
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget, BudgetRequest, Limit, Workload
from edgeprune.schema.candidate import Candidate, SearchResult
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.events import NullProgress
from edgeprune.schema.lock import parse_locks
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.residuals import Evaluation, Residuals
from edgeprune.schema.scores import ScoreArrays, Scores
from tests.bench.search_claims import Claims
from tests.bench.search_lab import cache_folder, lab_folder
from tests.bench.search_tiny import (
    CONTEXT,
    KERNELS,
    MENU,
    all_losses,
    calibrated,
    recipe_of,
    restricted,
    trained_model,
)
from tests.unit.search.builders import make_device

__all__ = ["run"]

EVALUATIONS = 12
WITHIN = 0.002
"""Of the best recipe's loss."""
QUANTILES = (0.03, 0.1, 0.25, 0.5, 0.8)
"""Limits lie at these quantiles of what the recipes need."""


LOCKS = parse_locks(("*.o=factors",))
"""The menu stores ranks as factors alone: pivot rows would be the same weights at another price."""


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """Everything the searches read, and every recipe's measured loss."""

    spec: ModelSpec
    scores: Scores
    arrays: ScoreArrays
    device: DeviceProfile
    workload: Workload
    dense_nats: float
    losses: dict[str, float]
    """Hash of the edits -> nats per token."""

    def refined(self, budget: Budget, *, evaluations: int) -> Refined:
        """The search with so many evaluations, each answered from the table of all losses."""
        request = BudgetRequest(
            disk=None if budget.disk_bytes is None else Limit(absolute=float(budget.disk_bytes)),
            memory=None if budget.memory_bytes is None else Limit(absolute=float(budget.memory_bytes)),
            latency=None if budget.latency_s is None else Limit(absolute=budget.latency_s),
        )
        cost_model = CostModel(self.device, self.spec, self.workload)

        def solve(residuals: Residuals | None, region: Recipe | None, _scale: float) -> SearchResult:
            return solve_request(
                request,
                device=self.device,
                spec=self.spec,
                scores=self.scores,
                arrays=self.arrays,
                workload=self.workload,
                seed=0,
                locks=LOCKS,
                residuals=residuals,
                region=region,
            )

        def choose(
            residuals: Residuals | None,
            region: Recipe | None,
            _scale: float,
            families: frozenset[str],
            excluded: Sequence[Recipe],
        ) -> Candidate | None:
            return choose_without(
                families,
                excluded=excluded,
                budget=budget,
                cost_model=cost_model,
                spec=self.spec,
                scores=self.scores,
                arrays=self.arrays,
                workload=self.workload,
                seed=0,
                locks=LOCKS,
                residuals=residuals,
                region=region,
            )

        tools = Tools(
            solve=solve,
            choose=choose,
            quality=lambda residuals: QualityModel(self.spec, self.scores, self.arrays, residuals),
            general=None,
            measure=lambda recipes, _is_full: [self._evaluation(recipe) for recipe in recipes],
            empty=Residuals(model_hash=self.spec.model_hash, scores_hash=""),
        )
        return refine(tools, limit=evaluations)

    def _evaluation(self, recipe: Recipe) -> Evaluation:
        key = edits_hash(recipe)
        increase = self.losses[key] - self.dense_nats
        return Evaluation(
            key=key,
            recipe_hash=key,
            recipe=recipe,
            loss_increase_nats=increase,
            relative_loss=increase / self.dense_nats,
            token_limit=0,
            scored_tokens=0,
        )


def run(claims: Claims, *, quick: bool) -> None:
    lab = lab_folder()
    if lab is None:
        print("  EDGEPRUNE_LAB is not set: left out", file=sys.stderr)
        return
    texts = lab / "text" / "medicine.calib.jsonl"
    folder = trained_model(cache_folder(), texts, steps=30 if quick else 400)
    print(f"  {(folder / 'trained').read_text().strip()}")
    model = load_model(folder)
    with tempfile.TemporaryDirectory() as scratch:
        general = lab / "text" / "general.calib.jsonl"
        calibration = calibrated(model, texts, general, Path(scratch), quick=quick)
        documents = [list(model.tokenizer.encode(text).ids) for text in read_split(Path(scratch), "domain", "select")]
    windows = [window for window in cut_windows(documents, CONTEXT) if len(window) == CONTEXT]
    windows = windows[: 2 if quick else 8]
    menu = MENU[:6] if quick else MENU
    by_options = all_losses(model, calibration, windows, menu)
    recipes = {options: recipe_of(model.spec, options) for options in by_options}
    _check_table(claims, model, calibration, windows, [(recipes[key], nats) for key, nats in by_options.items()])
    scores, arrays = restricted(model.spec, calibration.scores, calibration.arrays)
    nats, count = measure_loss(model, windows)
    tiny = Tiny(
        spec=model.spec,
        scores=scores,
        arrays=arrays,
        device=make_device(kernels=KERNELS),
        workload=Workload(context_tokens=CONTEXT),
        dense_nats=nats / count,
        losses={edits_hash(recipes[options]): nats for options, nats in by_options.items()},
    )
    if not quick:
        _judge(claims, tiny, list(recipes.values()))


def _check_table(
    claims: Claims,
    model: LoadedModel,
    calibration: CalibrationResult,
    windows: Sequence[Sequence[int]],
    measured: list[tuple[Recipe, float]],
) -> None:
    """The shared forward passes give what building and measuring one recipe alone gives."""
    worst = 0.0
    for recipe, nats in random.Random(0).sample(measured, 6):
        built = compress_model(model, recipe, calibration.stats, progress=NullProgress())
        total, count = measure_loss(built, windows)
        worst = max(worst, abs(total / count - nats))
    text = f"{len(measured):,} recipes measured; largest difference from six built alone"
    claims.below("exact", text, worst, 1e-4, unit=" nats")


def _judge(claims: Claims, tiny: Tiny, recipes: list[Recipe]) -> None:
    cost_model = CostModel(tiny.device, tiny.spec, tiny.workload)
    costs = [cost_model.cost(recipe) for recipe in recipes]
    losses = np.array([tiny.losses[edits_hash(recipe)] for recipe in recipes])
    disk = np.array([float(cost.disk_bytes) for cost in costs])
    memory = np.array([cost.peak_rss_bytes.high or 0.0 for cost in costs])
    seconds = np.array([cost.decode_s.high or 0.0 for cost in costs])
    budgets: dict[str, Callable[[float], Budget]] = {
        "disk": lambda share: Budget(disk_bytes=round(float(np.quantile(disk, share)))),
        "memory": lambda share: Budget(memory_bytes=round(float(np.quantile(memory, share)))),
        "latency": lambda share: Budget(latency_s=float(np.quantile(seconds, share))),
        "disk + latency": lambda share: Budget(
            disk_bytes=round(float(np.quantile(disk, share))), latency_s=float(np.quantile(seconds, share))
        ),
    }
    rows: list[dict[str, object]] = []
    for name, make in budgets.items():
        for share in QUANTILES:
            budget = make(share)
            is_within = (
                (disk <= (budget.disk_bytes or np.inf))
                & (memory <= (budget.memory_bytes or np.inf))
                & (seconds <= (budget.latency_s or np.inf))
            )
            if not is_within.any():
                continue
            best = float(losses[is_within].min())
            row: dict[str, object] = {
                "limit": name,
                "quantile": share,
                "within": int(is_within.sum()),
                "best": best,
                "best increase": best - tiny.dense_nats,
            }
            for label, evaluations in (("predicted", 0), ("refined", EVALUATIONS)):
                refined = tiny.refined(budget, evaluations=evaluations)
                chosen = refined.result.chosen
                found = None if chosen is None else tiny.losses[edits_hash(chosen.recipe)]
                row[f"{label} excess"] = None if found is None else found / best - 1.0
                row[f"{label} rank"] = None if found is None else int((losses[is_within] < found - 1e-9).sum())
            row["evaluations"] = len(refined.residuals.evaluations)
            rows.append(row)
    claims.keep("exact", rows)
    excesses = [row["refined excess"] for row in rows]
    worst = max((float(str(value)) for value in excesses), default=None) if None not in excesses else None
    claims.below("exact", f"loss above that of the best of all recipes, worst of {len(rows)} budgets", worst, WITHIN)
    equal = sum(1 for row in rows if row["refined rank"] == 0)
    print(f"  the very best recipe in {equal} of {len(rows)} budgets")
