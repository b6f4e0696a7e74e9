"""Rows of the quality table: one technique at one kept fraction for one domain, one file each, never made twice.

A row's file is named by the hash of what it depends on: model, texts, technique, fraction, how much is read, our
sources. A technique that cannot reach a fraction has a row that says so, which is a result too.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from edgeprune.artifacts import hash_parts, read_record, write_record
from edgeprune.calibrate.run import CalibrationResult
from edgeprune.compress.apply import compress_model
from edgeprune.errors import UsageError
from edgeprune.intake.load import LoadedModel
from edgeprune.pipeline.single import single_recipe
from edgeprune.schema.base import Record
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import Recipe
from tests.bench.quality_lab import CONTEXT_TOKENS, SEED, Domain, Told, is_kept, results_folder, source_hash
from tests.bench.quality_measure import FULL, Amount, Quality, measure_quality
from tests.bench.quality_speed import Speed, measure_speed

__all__ = ["DENSE", "Row", "make_row", "plan_recipe"]

DENSE = "dense"
_SOURCES = ("calibrate", "compress", "intake", "pipeline", "predict", "search")


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
    speed: Speed | None = None
    """None where it was not measured."""
    is_full: bool = False
    """All of the report texts and questions were read."""
    seconds: float = 0.0
    recipe: Recipe | None = None
    sources: str = ""

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
    with_speed: bool,
    recipe: Callable[[], Recipe] | None = None,
    variant: str = "",
    basis: str = "",
) -> Row:
    """The row from its file, or made now.

    Args:
        domain: the calibrated lab model.
        technique: as `edgeprune compress --technique` calls it, or `dense`.
        kept: fraction of the parameters.
        amount: of the report texts.
        with_speed: also export and time it.
        recipe: makes the recipe where it is not the technique's own.
        variant: tells such a row from the technique's own.
        basis: of what else the recipe depends on.
    """
    key = hash_parts(domain.key, domain.name, technique, variant, basis, kept, amount, with_speed, CONTEXT_TOKENS, SEED)
    name = "-".join(filter(None, (domain.name, technique, variant, f"{kept:g}", key[:12])))
    path = results_folder() / f"{name}.json"
    sources = source_hash(*_SOURCES)
    if path.is_file():
        found = read_record(path, Row)
        if found.sources == sources or is_kept():
            return found
    print(f"{domain.name} {technique} {variant} {kept:g}", file=sys.stderr, flush=True)
    started = time.perf_counter()
    row = Row(
        domain=domain.name,
        technique=technique,
        variant=variant,
        kept=kept,
        is_full=amount == FULL,
        sources=sources,
    )
    try:
        chosen = plan_recipe(domain, technique, kept) if recipe is None else recipe()
    except UsageError as error:
        row = replace(row, refusal=str(error))
    else:
        row = _measured(row, domain, chosen, amount, path.with_suffix(""), with_speed=with_speed)
    row = replace(row, seconds=round(time.perf_counter() - started, 1))
    write_record(path, row)
    return row


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


def _measured(row: Row, domain: Domain, recipe: Recipe, amount: Amount, scratch: Path, *, with_speed: bool) -> Row:
    dense = domain.dense
    built: LoadedModel = compress_model(dense, recipe, domain.stats, progress=NullProgress())
    return replace(
        row,
        kept_fraction=built.spec.parameter_count / dense.spec.parameter_count,
        quality=measure_quality(built, domain.lab, domain=domain.name, other=domain.other, amount=amount),
        speed=measure_speed(built, recipe, scratch) if with_speed else None,
        recipe=recipe,
    )
