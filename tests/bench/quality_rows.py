"""Rows of the quality table: one technique at one kept fraction for one domain, in parts that are never made twice.

    plan      the recipe, or why there is none      of the calibration's content, technique, fraction, planning code
    quality   losses and answers of the built model  of recipe, statistics, how much is read, building and asking code
    speed     bytes and ms per token                 of recipe, statistics, exporting and timing code

Each part is a file named by the hash of what it depends on, written whole when it is finished, so a bench that was
killed goes on with the next part. Where planning code changes and gives the same recipe, what was measured of it stays.
Plans and quality do not depend on what else the machine does; speed does, and is a pass of its own. A technique that
cannot reach a fraction has a row that says so, which is a result too.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from msgspec.structs import replace

from edgeprune.artifacts import hash_parts, read_record, write_record
from edgeprune.calibrate.run import CalibrationResult
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.compress.apply import PASSES, compress_model
from edgeprune.errors import UsageError
from edgeprune.intake.load import LoadedModel
from edgeprune.pipeline.single import single_recipe
from edgeprune.schema.base import Record
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import Recipe
from tests.bench.quality_lab import CONTEXT_TOKENS, SEED, Domain, Told, results_folder
from tests.bench.quality_measure import QUICK, Amount, Quality, measure_quality
from tests.bench.quality_sources import is_kept, source_hash
from tests.bench.quality_speed import Speed, measure_speed

__all__ = ["DENSE", "ONLY", "Plan", "Row", "make_row", "plan_recipe", "plan_row"]

DENSE = "dense"
ONLY = ("quality", "speed", "table")
"""What a pass makes: plans and quality, speed of the rows that are there, or nothing at all."""


class Plan(Record, frozen=True, kw_only=True):
    """What a technique makes of a fraction."""

    key: str
    recipe: Recipe | None = None
    refusal: str | None = None
    seconds: float = 0.0


class Measured(Record, frozen=True, kw_only=True):
    """What was measured of a built model."""

    key: str
    kept_fraction: float
    quality: Quality | None = None
    speed: Speed | None = None
    seconds: float = 0.0


class Row(Record, frozen=True, kw_only=True):
    """One line of the table."""

    domain: str
    technique: str
    variant: str = ""
    """What sets the row apart from the technique as `edgeprune compress` runs it."""
    kept: float
    """Asked for: stored parameters / the dense model's, tied tables once."""
    kept_fraction: float | None = None
    """Reached; None where the technique cannot reach it."""
    refusal: str | None = None
    quality: Quality | None = None
    """None where it was not measured yet."""
    speed: Speed | None = None
    """None where it was not measured yet."""
    is_full: bool = False
    """All of the domain's report text was read."""
    seconds: float = 0.0
    recipe: Recipe | None = None

    @property
    def domain_bits(self) -> float:
        """Bits-per-byte on the domain; infinite where nothing was built."""
        return float("inf") if self.quality is None else self.quality.domain_bits


def make_row(
    domain: Domain,
    technique: str,
    kept: float,
    *,
    amount: Amount,
    only: str = "quality",
    recipe: Callable[[], Recipe] | None = None,
    stats: CalibrationStats | None = None,
    variant: str = "",
) -> Row:
    """The row from its files; what the pass is for is made now where it is missing.

    Args:
        domain: the calibrated lab model.
        technique: as `edgeprune compress --technique` calls it, or `dense`.
        kept: fraction of the parameters.
        amount: of the report texts.
        only: one of `ONLY`.
        recipe: makes the recipe where it is not the technique's own.
        stats: what it is applied with, where that is not the calibration's.
        variant: tells such a row from the technique's own.
    """
    name = "-".join(filter(None, (domain.name, technique, variant, f"{kept:g}")))
    row = Row(domain=domain.name, technique=technique, variant=variant, kept=kept, is_full=amount.text_bytes is None)
    plan = plan_row(domain, technique, kept, name, recipe, may_make=only == "quality")
    if plan is None or plan.recipe is None:
        return row if plan is None else replace(row, refusal=plan.refusal, seconds=plan.seconds)
    row = replace(row, recipe=plan.recipe, seconds=plan.seconds)
    used = stats or domain.stats
    subject = hash_parts(plan.recipe, domain.stats_key, used.tokens.numel(), CONTEXT_TOKENS)
    building = _building_hash(domain, plan.recipe)
    asked = hash_parts(subject, domain.report_key, building, source_hash("tests.bench.quality_measure"), amount)
    folder = results_folder() / "quality"
    quality = _known(folder, name, subject=hash_parts(subject, amount), key=asked)
    if quality is None and only == "quality":
        print(f"{name}{' all text' if row.is_full else ''}", file=sys.stderr, flush=True)
        started = time.perf_counter()
        built = compress_model(domain.dense, plan.recipe, used, progress=NullProgress())
        quality = Measured(
            key=asked,
            kept_fraction=_fraction(domain, built),
            quality=measure_quality(built, domain.lab, domain=domain.name, other=domain.other, amount=amount),
            seconds=round(time.perf_counter() - started, 1),
        )
        _keep(folder, name, hash_parts(subject, amount), quality)
    timed = hash_parts(subject, building, source_hash("tests.bench.quality_speed"))
    # Whoever only checks that the bench works has not made the machine quiet.
    folder = results_folder() / ("speed-quick" if amount == QUICK else "speed")
    speed = _known(folder, name, subject=subject, key=timed)
    if speed is None and only == "speed" and quality is not None:
        print(f"{name} speed", file=sys.stderr, flush=True)
        built = compress_model(domain.dense, plan.recipe, used, progress=NullProgress())
        found = measure_speed(built, plan.recipe, folder / f".{name}")
        speed = Measured(key=timed, kept_fraction=_fraction(domain, built), speed=found)
        _keep(folder, name, subject, speed)
    if quality is not None:
        row = replace(
            row,
            kept_fraction=quality.kept_fraction,
            quality=quality.quality,
            seconds=round(row.seconds + quality.seconds, 1),
        )
    return replace(row, speed=None if speed is None else speed.speed)


def plan_recipe(domain: Domain, technique: str, kept: float) -> Recipe:
    """The technique's recipe for the lab model.

    Raises:
        UsageError: it cannot reach the fraction.
    """
    dense = domain.dense
    if technique == DENSE:
        return Recipe(model_hash=dense.spec.model_hash, technique=DENSE, context_tokens=CONTEXT_TOKENS, seed=SEED)
    return single_recipe(
        domain.model,
        dense,
        technique,
        kept,
        result=CalibrationResult(stats=domain.stats, scores=domain.scores, arrays=domain.arrays),
        folder=domain.folder,
        context_tokens=CONTEXT_TOKENS,
        seed=SEED,
        progress=Told(),
    )


def plan_row(
    domain: Domain,
    technique: str,
    kept: float,
    name: str,
    recipe: Callable[[], Recipe] | None = None,
    *,
    may_make: bool = True,
) -> Plan | None:
    """The plan from its file; made now where it is missing and may be made.

    Args:
        domain: the calibrated lab model.
        technique: as `edgeprune compress --technique` calls it, or `dense`.
        kept: fraction of the parameters.
        name: of the row.
        recipe: makes the recipe where it is not the technique's own.
        may_make: a missing plan is made.
    """
    if recipe is not None:
        return Plan(key="", recipe=recipe())
    key = hash_parts(domain.content_key, technique, kept, CONTEXT_TOKENS, SEED, _planning_hash(technique))
    path = results_folder() / "plans" / f"{name}.json"
    if path.is_file():
        found = read_record(path, Plan)
        if found.key == key or is_kept():
            return found
    if not may_make:
        return None
    print(f"{name} plan", file=sys.stderr, flush=True)
    started = time.perf_counter()
    try:
        plan = Plan(key=key, recipe=plan_recipe(domain, technique, kept))
    except UsageError as error:
        plan = Plan(key=key, refusal=str(error))
    plan = replace(plan, seconds=round(time.perf_counter() - started, 1))
    write_record(path, plan)
    return plan


def _planning_hash(technique: str) -> str:
    """The code that chooses a recipe."""
    if technique == DENSE:
        return ""
    if technique == "auto":
        return source_hash("edgeprune.pipeline.joint", without=_IDLE)
    return source_hash(f"edgeprune.compress.techniques.{technique}", "edgeprune.calibrate.selection")


_IDLE = (
    "edgeprune.compress.bits",
    "edgeprune.compress.gptq",
    "edgeprune.calibrate.kv_rounding",
    "edgeprune.compress.outliers",
    "edgeprune.compress.recover.weights",
)
"""Rows neither round nor train."""


def _building_hash(domain: Domain, recipe: Recipe) -> str:
    """The code that makes the model of a recipe: the passes that it gives something to do, in their order."""
    empty = replace(plan_recipe(domain, DENSE, 1.0), technique=recipe.technique, seed=recipe.seed)
    busy, applied = [], empty
    for step in PASSES:
        after = step.part(applied, recipe)
        if after != applied:
            busy.append(type(step).__module__)
        applied = after
    return hash_parts(source_hash(*busy, "edgeprune.intake.adapters.llama", without=_IDLE), str(torch.__version__))


def _fraction(domain: Domain, built: LoadedModel) -> float:
    return built.spec.parameter_count / domain.dense.spec.parameter_count


def _known(folder: Path, name: str, *, subject: str, key: str) -> Measured | None:
    """What was measured of a subject by this code, or by any where that is taken."""
    path = folder / f"{name}-{subject[:12]}.json"
    if not path.is_file():
        return None
    found = read_record(path, Measured)
    return found if found.key == key or is_kept() else None


def _keep(folder: Path, name: str, subject: str, measured: Measured) -> None:
    write_record(folder / f"{name}-{subject[:12]}.json", measured)
