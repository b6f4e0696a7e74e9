"""The lab model, calibrated once for all sections, in a run folder that a second run of the bench finds finished.

The folder is made by the pipeline's own stages (intake, profile, calibrate), so its content is keyed by the content of
model and texts. It lies under `EDGEPRUNE_BENCH_CACHE`, or under `tests/bench/results/cache`; with
`EDGEPRUNE_BENCH_KEEP=1` what lies there is taken even where a stage has changed since. Domain is the medical
text of the lab; what is reported is measured on `medicine.valid.jsonl`, which nothing selects on.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from edgeprune.artifacts import RunFolder, read_arrays, read_record, write_record
from edgeprune.calibrate.corpus import encode, read_split
from edgeprune.calibrate.loss import cut_windows, measure_loss
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.calibrate.token_bytes import token_byte_lengths
from edgeprune.compress.apply import compress_model
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.pipeline.evaluations import keyed
from edgeprune.pipeline.journal import Journal
from edgeprune.pipeline.request import complete_request
from edgeprune.pipeline.settings import workload_of
from edgeprune.pipeline.stages import stage_named
from edgeprune.pipeline.table import Run, run_stages
from edgeprune.pipeline.versions import tool_versions
from edgeprune.predict.cost import CostModel
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget, Workload
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.events import Event, NullProgress
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.residuals import EvaluationTask
from edgeprune.schema.run import RunManifest, RunRequest
from edgeprune.schema.scores import ScoreArrays, Scores
from edgeprune.search.problem import Problem

__all__ = ["CONTEXT_TOKENS", "Lab", "Loss", "cache_folder", "lab_folder", "lab_request", "open_lab"]

CONTEXT_TOKENS = 256


class _Told(NullProgress):
    """Says on stderr what the stages say."""

    def emit(self, event: Event) -> None:
        if event.kind in ("stage_started", "stage_finished", "stage_skipped") or event.stage == "calibrate":
            print(f"  {event.stage}: {event.kind} {event.message}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Loss:
    """Loss on one fixed set of documents; a trimmed vocabulary cuts them into other tokens, so it is taken per byte."""

    documents: tuple[str, ...]
    dense_nats_per_byte: float
    bytes_per_token: float
    """Of the dense tokenizer, over what it scores."""

    def increase(self, model: LoadedModel) -> float:
        """Nats per token of the dense tokenizer that a model loses more than the dense one."""
        return (nats_per_byte(model, self.documents)[0] - self.dense_nats_per_byte) * self.bytes_per_token


def nats_per_byte(model: LoadedModel, documents: Sequence[str]) -> tuple[float, float]:
    """Loss per scored byte, and scored bytes per scored token."""
    windows = cut_windows(encode(model.tokenizer, documents), CONTEXT_TOKENS)
    nats, count = measure_loss(model, windows)
    lengths = token_byte_lengths(model.tokenizer)
    scored_bytes = sum(int(lengths[window[1:]].sum()) for window in windows)
    return nats / scored_bytes, scored_bytes / count


@dataclass(frozen=True)
class Lab:
    """Everything the sections read."""

    run: Run
    spec: ModelSpec
    scores: Scores
    arrays: ScoreArrays
    device: DeviceProfile
    workload: Workload

    @cached_property
    def loaded(self) -> LoadedModel:
        assert self.run.request.model is not None
        return load_model(Path(self.run.request.model))

    @cached_property
    def stats(self) -> CalibrationStats:
        return CalibrationStats.load(self.run.folder.stats)

    def problem(self, budget: Budget | None = None, *, device: DeviceProfile | None = None) -> Problem:
        """The search problem on this device or another."""
        return Problem(
            spec=self.spec,
            scores=self.scores,
            cost_model=CostModel(device or self.device, self.spec, self.workload, scores=self.scores),
            quality_model=QualityModel(self.spec, self.scores, self.arrays),
            budget=budget or Budget(),
            context_tokens=self.workload.context_tokens,
            seed=0,
        )

    def build(self, recipe: Recipe) -> LoadedModel:
        """The compressed model, weights as the bundle holds them."""
        return compress_model(self.loaded, recipe, self.stats, progress=NullProgress())

    def task(self, recipe: Recipe, *, token_limit: int) -> EvaluationTask:
        """The evaluation of a recipe on selection text, as `refine` asks for it."""
        folder = self.run.folder
        assert self.run.request.model is not None
        return keyed(
            EvaluationTask(
                key="",
                recipe_hash="",
                model=self.run.request.model,
                model_hash=self.spec.model_hash,
                stats=str(folder.stats),
                stats_hash=self.run.hash_of(folder.stats),
                texts=str(folder.texts),
                texts_hash=self.run.hash_of(folder.texts),
                window_tokens=CONTEXT_TOKENS,
                token_limit=token_limit,
                recipe=recipe,
            )
        )

    def loss(self, part: str, *, limit_tokens: int) -> Loss:
        """Domain loss on the first documents of `select` or `report`, up to about that many tokens."""
        documents: list[str] = []
        count = 0
        for text in read_split(self.run.folder.texts, "domain", part):
            if count >= limit_tokens:
                break
            documents.append(text)
            count += len(encode(self.loaded.tokenizer, [text])[0])
        return Loss(tuple(documents), *nats_per_byte(self.loaded, documents))


def lab_request(folder: Path, *, quick: bool) -> RunRequest:
    """The lab model on its medical texts."""
    text = folder / "text"
    return RunRequest(
        model=str(folder / "model"),
        domain=(str(text / "medicine.calib.jsonl"),),
        general=(str(text / "general.calib.jsonl"),),
        evaluation=(str(text / "medicine.valid.jsonl"),),
        questions=str(folder / "choice" / "medicine.valid.jsonl"),
        context_tokens=CONTEXT_TOKENS,
        quick=quick,
    )


def lab_folder() -> Path | None:
    """The lab folder; None where EDGEPRUNE_LAB is not set."""
    named = os.environ.get("EDGEPRUNE_LAB")
    return None if named is None else Path(named)


def cache_folder() -> Path:
    """Where calibrations are kept between runs of the bench."""
    named = os.environ.get("EDGEPRUNE_BENCH_CACHE")
    return Path(named) if named else Path(__file__).parent / "results" / "cache"


def open_lab(*, quick: bool) -> Lab | None:
    """The lab model, calibrated; None where EDGEPRUNE_LAB is not set."""
    lab = lab_folder()
    if lab is None:
        return None
    folder = RunFolder(cache_folder() / ("lab-quick" if quick else "lab"))
    request = complete_request(lab_request(lab, quick=quick))
    manifest = RunManifest(request=request, versions=tool_versions())
    if folder.manifest.is_file():
        manifest = read_record(folder.manifest, RunManifest)
    run = Run(folder=folder, request=request, manifest=manifest, progress=Journal(folder.events, _Told()))
    folder.root.mkdir(parents=True, exist_ok=True)
    write_record(folder.manifest, manifest)
    if os.environ.get("EDGEPRUNE_BENCH_KEEP") != "1" or not folder.scores.is_file():
        run_stages(tuple(map(stage_named, ("intake", "profile", "calibrate"))), run)
    return Lab(
        run=run,
        spec=read_record(folder.model, ModelSpec),
        scores=read_record(folder.scores, Scores),
        arrays=read_arrays(folder.scores_arrays),
        device=read_record(folder.device, DeviceProfile),
        workload=workload_of(run),
    )
