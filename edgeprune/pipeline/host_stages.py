"""The stages that need torch: intake (headers only), calibrate, compress, export and its baselines.

Every stage imports its package inside its action: importing this module costs nothing and needs no torch.
"""

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from edgeprune.artifacts import read_arrays, read_record, write_arrays, write_record
from edgeprune.pipeline.other_texts import other_inputs, other_texts
from edgeprune.pipeline.request import named
from edgeprune.pipeline.settings import BASELINES, dense_spec, kernels_of, read_recipe, workload_of
from edgeprune.pipeline.table import Run
from edgeprune.pipeline.versions import tool_versions
from edgeprune.schema.bundle import BundleManifest
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.events import Event
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.scores import Scores
from edgeprune.units import format_bytes

if TYPE_CHECKING:
    from edgeprune.export.evaluation import EvaluationChoices, EvaluationText
    from edgeprune.intake.load import LoadedModel

__all__ = [
    "baselines_inputs",
    "baselines_stage",
    "calibrate_inputs",
    "calibrate_stage",
    "compress_inputs",
    "compress_stage",
    "export_inputs",
    "export_stage",
    "intake_inputs",
    "intake_stage",
]


_SCORING = 5
"""Raised when calibration scores more than before, so that an older run's scores are made again."""


def _model_folder(run: Run) -> Path:
    from edgeprune.intake.source import resolve_model  # reaches for the hub only when the name is no folder

    assert run.request.model is not None
    return resolve_model(run.request.model)


def _loaded(run: Run) -> "LoadedModel":
    if run.loaded is None:
        from edgeprune.intake.load import load_model  # torch and transformers: two seconds and 400 MB

        run.loaded = load_model(_model_folder(run))
    return run.loaded


def intake_inputs(run: Run) -> list[object]:
    """The model by content."""
    return [run.hash_of(_model_folder(run))]


def intake_stage(run: Run) -> str:
    """Read the shapes from config and headers."""
    from edgeprune.intake.spec import read_spec  # reads headers only; kept lazy so that a board needs no model folder

    spec = named(read_spec(_model_folder(run)), run.request)
    write_record(run.folder.model, spec)
    return f"{spec.architecture}, {len(spec.blocks)} blocks, {spec.parameter_count / 1e6:.1f} M parameters"


def calibrate_inputs(run: Run) -> list[object]:
    """The model and the texts by content, and the settings."""
    request = run.request
    groups = (request.domain, request.general, request.evaluation)
    hashes = [[run.hash_of(Path(path)) for path in group] for group in groups]
    context = workload_of(run).context_tokens
    return [
        run.hash_of(_model_folder(run)),
        hashes,
        context,
        request.seed,
        kernels_of(request),
        request.rounding,
        _SCORING,
    ]


def calibrate_stage(run: Run) -> str:
    """Measure statistics and score every edit."""
    from edgeprune.calibrate.run import CalibrationRequest, calibrate  # torch

    request = run.request
    result = calibrate(
        _loaded(run),
        CalibrationRequest(
            domain=tuple(Path(path) for path in request.domain),
            general=tuple(Path(path) for path in request.general),
            evaluation=tuple(Path(path) for path in request.evaluation),
            context_tokens=workload_of(run).context_tokens,
            seed=request.seed,
            kernels=kernels_of(request),
            rounding=request.rounding,
        ),
        texts_folder=run.folder.texts,
        progress=run.progress,
        shards_folder=run.folder.shards,
        executor=run.executor(),
    )
    result.stats.save(run.folder.stats)
    write_arrays(run.folder.scores_arrays, result.arrays)
    write_record(run.folder.scores, result.scores)
    summary = result.scores.calibration
    stability = "unknown" if summary.stability is None else f"{summary.stability:.3f}"
    return f"{summary.domain_token_count:,} domain tokens, halves differ by {stability}"


def compress_inputs(run: Run) -> list[object]:
    """The model by content, the recipe, the statistics; the texts too where they are trained on."""
    recipe = read_recipe(run)
    trained_on = [] if recipe.recovery is None else [run.hash_of(run.folder.texts)]
    return [run.hash_of(_model_folder(run)), recipe, run.hash_of(run.folder.stats), *trained_on]


def compress_stage(run: Run) -> str:
    """Apply the recipe in torch."""
    from edgeprune.calibrate.statistics import CalibrationStats  # torch
    from edgeprune.compress.apply import compress_model
    from edgeprune.compress.save import save_hf

    recipe = read_recipe(run)
    dense = _loaded(run)
    stats = CalibrationStats.load(run.folder.stats)
    run.compressed = compress_model(
        dense,
        recipe,
        stats,
        progress=run.progress,
        executor=run.executor(),
        scratch=run.folder.root / "factors",
        texts=run.folder.texts,
        trainings=run.folder.trainings,
    )
    save_hf(run.compressed, recipe, run.folder.hf)
    shutil.rmtree(run.folder.trainings, ignore_errors=True)
    kept = run.compressed.spec.parameter_count / dense.spec.parameter_count
    return f"{run.compressed.spec.parameter_count / 1e6:.2f} M parameters, {kept:.1%} of the dense model"


def _evaluation_inputs(run: Run) -> list[object]:
    questions = run.request.questions
    return [
        run.hash_of(run.folder.texts),
        None if questions is None else [run.hash_of(Path(questions)), run.request.budget.min_accuracy is not None],
        workload_of(run),
        *other_inputs(run),
        *(["last_logits"] if run.request.last_logits else []),
        *(["float16"] if run.request.activation_bits == 16 else []),
    ]


def _evaluation(run: Run) -> "tuple[list[EvaluationText], list[EvaluationChoices]]":
    from edgeprune.calibrate.corpus import read_split
    from edgeprune.calibrate.questions import read_questions, split_questions
    from edgeprune.export.evaluation import EvaluationChoices, EvaluationText

    texts = [
        EvaluationText(
            name=name, documents=read_split(run.folder.texts, name, "report"), description=f"{name} report text"
        )
        for name in ("domain", "general")
    ]
    texts += other_texts(run, _model_folder(run), texts[0].documents)
    choices = []
    if run.request.questions is not None:
        path = Path(run.request.questions)
        questions, description = read_questions(path), path.name
        if run.request.budget.min_accuracy is not None:
            # Half of them were selected on, so only the other half may be reported.
            questions, description = split_questions(questions)[1], f"{path.name}, the half not selected on"
        choices.append(EvaluationChoices(name="questions", questions=questions, description=description))
    return texts, choices


def dense_bits(run: Run) -> dict[str, float]:
    """Text name -> bits-per-byte of the dense model, as torch computed it for the dense bundle; empty before that."""
    path = run.folder.baseline("dense") / "edgeprune.json"
    if not path.is_file():
        return {}
    manifest = read_record(path, BundleManifest)
    found = {}
    for text in manifest.texts:
        arrays = read_arrays(path.parent / text.path)
        lengths = np.diff(arrays["offsets"])
        whole, rest = lengths // text.window_tokens, lengths % text.window_tokens
        scored = int((whole * (text.window_tokens - 1) + np.maximum(rest - 1, 0)).sum())
        if text.reference_loss_nats is not None and text.window_tokens > 1:
            found[text.name] = text.reference_loss_nats * scored / (math.log(2.0) * text.scored_bytes)
    return found


def _export_one(run: Run, loaded: "LoadedModel", recipe: Recipe, label: str, target: Path) -> BundleManifest:
    from edgeprune.calibrate.cache_scales import cache_documents
    from edgeprune.export.bundle import export_bundle
    from edgeprune.predict.cost import CostModel

    texts, choices = _evaluation(run)
    workload = workload_of(run)
    is_baseline = label in BASELINES
    scores = read_record(run.folder.scores, Scores) if run.folder.scores.is_file() else None
    cost_model = CostModel(read_record(run.folder.device, DeviceProfile), dense_spec(run), workload, scores=scores)
    return export_bundle(
        loaded,
        recipe,
        folder=target,
        label=label,
        workload=workload,
        texts=texts,
        choices=choices,
        budget=None if is_baseline else read_record(run.folder.front, SearchResult).budget,
        predicted=cost_model.cost(recipe),
        versions=tool_versions(),
        progress=run.progress,
        dense_bits_per_byte=None if is_baseline else dense_bits(run),
        calibration=cache_documents(run.folder.texts) if recipe.kv_bits == 8 else (),
        base=_model_folder(run),
        last_logits=run.request.last_logits,
        activation_bits=run.request.activation_bits,
    )


def export_inputs(run: Run) -> list[object]:
    """The compressed model, the recipe, the limits, the evaluation sets."""
    return [run.hash_of(run.folder.hf), read_recipe(run), run.hash_of(run.folder.front), *_evaluation_inputs(run)]


def export_stage(run: Run) -> str:
    """Write the bundle of the recipe."""
    from edgeprune.compress.load import load

    loaded = run.compressed if run.compressed is not None else load(run.folder.hf)
    manifest = _export_one(run, loaded, read_recipe(run), "recipe", run.folder.bundle)
    run.compressed = None
    return _export_summary(manifest)


def _export_summary(manifest: BundleManifest) -> str:
    size = sum(file.size_bytes for file in manifest.files if not file.path.startswith("eval/"))
    parity = manifest.parity
    return (
        f"{format_bytes(size)}, logits within {parity.max_logit_difference:.1e}, "
        f"{parity.greedy_matched_count} of {len(parity.greedy_tokens)} greedy tokens as torch"
    )


def baselines_inputs(run: Run) -> list[object]:
    """The dense model, the device and the evaluation sets."""
    made = [BASELINES, run.request.rounding]
    return [run.hash_of(_model_folder(run)), run.hash_of(run.folder.device), *made, *_evaluation_inputs(run)]


def baselines_stage(run: Run) -> str:
    """Write the dense, 8-bit and 4-bit bundles the recipe is compared with."""
    from edgeprune.calibrate.statistics import CalibrationStats
    from edgeprune.compress.apply import compress_model
    from edgeprune.search.baselines import plain_recipe

    dense = _loaded(run)
    stats = CalibrationStats.load(run.folder.stats)
    context = workload_of(run).context_tokens
    for number, (label, kernel) in enumerate(BASELINES.items()):
        recipe = plain_recipe(dense.spec, kernel, context_tokens=context, seed=run.request.seed)
        recipe = replace(recipe, rounding=run.request.rounding)
        model = dense if label == "dense" else compress_model(dense, recipe, stats, progress=run.progress)
        _export_one(run, model, recipe, label, run.folder.baseline(label))
        run.progress.emit(
            Event(kind="stage_advanced", stage="baselines", message=label, done_fraction=(number + 1) / len(BASELINES))
        )
    run.loaded = None
    return ", ".join(BASELINES)
