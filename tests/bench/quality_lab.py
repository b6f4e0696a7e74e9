"""The lab model, calibrated once a domain for all rows of the quality table.

A calibration lies under `EDGEPRUNE_BENCH_CACHE` (default: `results/cache` beside this file) as `quality-<domain>/`:
statistics, scores, arrays and the split texts, with the key of what they were made from. Calibration and selection see
the domain's `calib` file alone; reports are on the `valid` files, which nothing selects on.
"""

import os
import sys
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec

from edgeprune.artifacts import RunFolder, hash_file, hash_parts, read_arrays, read_record, write_arrays, write_record
from edgeprune.calibrate.corpus import encode, pack_windows, read_split, separator_token
from edgeprune.calibrate.run import CalibrationRequest, calibrate
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.pipeline.settings import KERNELS
from edgeprune.pipeline.single import REPAIR_TOKENS
from edgeprune.pipeline.table import hash_tree
from edgeprune.schema.base import Record
from edgeprune.schema.events import Event, NullProgress
from edgeprune.schema.scores import ScoreArrays, Scores
from tests.bench.quality_sources import is_kept, source_hash

__all__ = ["CONTEXT_TOKENS", "DOMAINS", "SEED", "Domain", "Told", "open_domain", "results_folder"]

CONTEXT_TOKENS = 256
DOMAINS = ("medicine", "law")
SEED = 0


class Told(NullProgress):
    """Says on stderr what the stages say."""

    def emit(self, event: Event) -> None:
        if event.message:
            print(f"  {event.stage}: {event.message}", file=sys.stderr, flush=True)


class _Made(Record, frozen=True, kw_only=True):
    key: str
    sources: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Domain:
    """One domain's calibration of the dense lab model."""

    name: str
    lab: Path
    folder: RunFolder
    key: str
    """Of model, texts and settings."""
    calibration_s: float = 0.0
    """How long it took."""

    @property
    def model(self) -> Path:
        return self.lab / "model"

    @property
    def other(self) -> str:
        return next(name for name in DOMAINS if name != self.name)

    @cached_property
    def dense(self) -> LoadedModel:
        return load_model(self.model)

    @cached_property
    def stats_key(self) -> str:
        """Of what a recipe is applied with: the dense model and its statistics."""
        return hash_parts(self.dense.spec.model_hash, hash_file(self.folder.stats))

    @cached_property
    def content_key(self) -> str:
        """Of all that recipes are chosen from; the same where a calibration was made again and came out alike."""
        scores = [hash_file(path) for path in (self.folder.scores, self.folder.scores_arrays)]
        return hash_parts(self.stats_key, scores, hash_tree(self.folder.texts))

    @cached_property
    def report_key(self) -> str:
        """Of the texts and questions that are reported on."""
        names = (self.name, self.other, "general")
        texts = [self.lab / "text" / f"{name}.valid.jsonl" for name in names]
        return hash_parts([hash_file(path) for path in (*texts, self.lab / "choice" / f"{self.name}.valid.jsonl")])

    @cached_property
    def stats(self) -> CalibrationStats:
        return CalibrationStats.load(self.folder.stats)

    @cached_property
    def repair_stats(self) -> CalibrationStats:
        """The same with as much text as `edgeprune compress --repair` reads."""
        documents = encode(self.dense.tokenizer, read_split(self.folder.texts, "domain", "calibrate"))
        windows = pack_windows(
            documents,
            separator=separator_token(self.dense.spec),
            window_tokens=self.stats.tokens.shape[1],
            limit_tokens=REPAIR_TOKENS,
        )
        return replace(self.stats, tokens=windows)

    @cached_property
    def scores(self) -> Scores:
        return read_record(self.folder.scores, Scores)

    @cached_property
    def arrays(self) -> ScoreArrays:
        return read_arrays(self.folder.scores_arrays)


def open_domain(lab: Path, name: str) -> Domain:
    """The calibration of a domain, made now where it is missing or was made from something else."""
    text = lab / "text"
    domain_texts, general = (text / f"{name}.calib.jsonl",), (text / "general.calib.jsonl",)
    evaluation = (text / f"{name}.valid.jsonl",)
    inputs = (*sorted((lab / "model").iterdir()), *domain_texts, *general, *evaluation)
    key = hash_parts([hash_file(path) for path in inputs], CONTEXT_TOKENS, SEED, KERNELS)
    domain = Domain(name=name, lab=lab, folder=RunFolder(_cache() / f"quality-{name}"), key=key)
    made, path = (
        _Made(key=key, sources=source_hash("edgeprune.calibrate.run", "edgeprune.intake.adapters.llama")),
        domain.folder.root / "made.json",
    )
    if path.is_file():
        found = read_record(path, _Made)
        if (found.key, found.sources) == (key, made.sources) or (is_kept() and found.key == key):
            return replace(domain, calibration_s=found.seconds)
    started = time.perf_counter()
    domain.folder.root.mkdir(parents=True, exist_ok=True)
    result = calibrate(
        domain.dense,
        CalibrationRequest(
            domain=domain_texts,
            general=general,
            evaluation=evaluation,
            context_tokens=CONTEXT_TOKENS,
            seed=SEED,
            kernels=KERNELS,
        ),
        texts_folder=domain.folder.texts,
        progress=Told(),
    )
    result.stats.save(domain.folder.stats)
    write_arrays(domain.folder.scores_arrays, result.arrays)
    write_record(domain.folder.scores, result.scores)
    seconds = round(time.perf_counter() - started, 1)
    write_record(path, msgspec.structs.replace(made, seconds=seconds))
    return replace(domain, calibration_s=seconds)


def results_folder() -> Path:
    """Where the parts of rows lie."""
    return _cache() / "quality-rows"


def _cache() -> Path:
    named = os.environ.get("EDGEPRUNE_BENCH_CACHE")
    return Path(named) if named else Path(__file__).parent / "results" / "cache"
