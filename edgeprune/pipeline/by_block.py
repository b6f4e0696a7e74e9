"""A recipe applied to a model larger than memory: from its folder to a bundle, about one matrix in memory at a time.

Statistics, edits, rounding and the bundle's weights go block by block, from the folder's own files through files that
have no names (`edgeprune.intake.stored`). There is no search here: what a search reads are the losses of every edit,
which take many passes through the whole model. The recipe is the user's.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgeprune.errors import CalibrationError, UsageError
from edgeprune.pipeline.host import check_needs
from edgeprune.pipeline.host_by_block import predict_by_block
from edgeprune.pipeline.recipe_file import read_recipe_file
from edgeprune.pipeline.versions import tool_versions
from edgeprune.schema.budget import Workload
from edgeprune.schema.bundle import BundleManifest
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.recipe import Recipe
from edgeprune.units import format_bytes

if TYPE_CHECKING:
    pass

__all__ = ["ByBlockRequest", "bundle_by_block", "read_request"]

_CALIBRATION_TOKENS = 8_192
"""Of the domain text, as many as rounding reads."""


@dataclass(frozen=True, kw_only=True)
class ByBlockRequest:
    """What to make."""

    model: Path
    """Hugging Face folder with safetensors."""
    recipe: Recipe
    domain: tuple[str, ...]
    """Documents the statistics are measured on."""
    report: tuple[str, ...]
    """Documents whose loss the bundle is judged by; nothing is measured on them before."""
    window_tokens: int = 256
    window_count: int = 32
    workload: Workload
    max_host_memory_bytes: int | None = None
    """Refused where more is predicted; None asks for what is free."""
    activation_bits: Literal[16, 32] = 32
    """What the bundle computes in."""


def read_request(
    model: str,
    *,
    recipe: Path,
    domain: Sequence[Path],
    evaluation: Sequence[Path] = (),
    context: int | None = None,
    max_host_memory_bytes: int | None = None,
    activation_bits: Literal[16, 32] = 32,
) -> ByBlockRequest:
    """A request from what a user names: a model's folder or hub id, a recipe file, and texts.

    Raises:
        UsageError: a recipe that does not fit the model or the context, or no domain text.
        ModelError: the model cannot be read.
        CalibrationError: texts that cannot be used, or too little of them.
    """
    from edgeprune.calibrate.corpus import check_amount, read_parts  # torch and the tokenizers come with it
    from edgeprune.chat_template import ChatTemplate
    from edgeprune.intake.load import load_tokenizer
    from edgeprune.intake.source import resolve_model
    from edgeprune.intake.spec import read_spec

    if not domain:
        raise UsageError("No domain text was given; add --domain PATH with text of the field the model will serve.")
    folder = resolve_model(model)
    spec = read_spec(folder)
    found = read_recipe_file(recipe, spec, context_tokens=context)
    texts = read_parts(domain, evaluation, render=ChatTemplate(folder))
    check_amount(texts, load_tokenizer(folder), what="domain")
    window_tokens = min(256, spec.max_positions, found.context_tokens)
    return ByBlockRequest(
        model=folder,
        recipe=found,
        domain=tuple(texts.calibrate),
        report=tuple(texts.report),
        window_tokens=window_tokens,
        window_count=_CALIBRATION_TOKENS // window_tokens,
        workload=Workload(context_tokens=found.context_tokens),
        max_host_memory_bytes=max_host_memory_bytes,
        activation_bits=activation_bits,
    )


def bundle_by_block(request: ByBlockRequest, *, output: Path, progress: Progress) -> BundleManifest:
    """Make the bundle in a folder; an existing bundle is replaced.

    Raises:
        UsageError: the recipe does not fit the model or trains it, more memory is needed than is allowed, or the folder
            holds something else.
        DeviceError: too little disk or memory.
        EdgePruneError: as the stages.
    """
    from edgeprune.intake.spec import read_spec  # reads headers only

    if output.exists() and (
        not output.is_dir() or (any(output.iterdir()) and not (output / "edgeprune.json").is_file())
    ):
        raise UsageError(f"{output} is not empty and holds no bundle of EdgePrune; give a new folder with -o.")
    spec, recipe = read_spec(request.model), request.recipe
    if recipe.recovery is not None:
        raise UsageError("A recovery trains the whole model in memory; take recovery out of the recipe, or use `run`.")
    tokens = request.window_tokens * request.window_count
    needs = predict_by_block(spec, recipe, output, token_count=tokens)
    check_needs(needs, max_host_memory_bytes=request.max_host_memory_bytes)
    message = f"needs about {format_bytes(needs.memory_bytes)} of memory and {format_bytes(needs.disk_bytes)} of disk"
    progress.emit(Event(kind="noted", stage="host", message=message))

    from edgeprune.calibrate.capture_by_block import capture_by_block  # torch, from here on
    from edgeprune.calibrate.corpus import encode, pack_windows, separator_token
    from edgeprune.compress.apply import compress_model
    from edgeprune.export.bundle import export_bundle
    from edgeprune.export.evaluation import EvaluationText
    from edgeprune.intake.stored.load import load_mapped
    from edgeprune.intake.stored.store import WeightStore

    output.parent.mkdir(parents=True, exist_ok=True)
    # Beside the bundle, not in the system's temporary folder: that may be in memory.
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-weights-") as folder:
        store = WeightStore(Path(folder))
        _begin(progress, "intake", "opening the model")
        dense = load_mapped(request.model, store)
        windows = pack_windows(
            encode(dense.tokenizer, request.domain),
            separator=separator_token(dense.spec),
            window_tokens=request.window_tokens,
            limit_tokens=tokens,
        )
        if not windows.numel():
            raise CalibrationError(
                f"The domain text has fewer than {request.window_tokens} tokens; give a longer one, or shorter windows."
            )
        _begin(progress, "calibrate", "measuring the model")
        stats = capture_by_block(dense, windows, store=store, blocks=_measured_blocks(recipe), progress=progress)
        _begin(progress, "compress", "applying the recipe")
        compressed = compress_model(dense, recipe, stats, progress=progress)
        _begin(progress, "export", "writing the bundle")
        texts: Sequence[EvaluationText] = (
            [EvaluationText(name="domain", documents=list(request.report), description="domain report text")]
            if request.report
            else []
        )
        return export_bundle(
            compressed,
            recipe,
            folder=output,
            label="recipe",
            workload=request.workload,
            texts=texts,
            choices=[],
            budget=None,
            predicted=None,
            versions=tool_versions(),
            progress=progress,
            calibration=request.domain if recipe.kv_bits == 8 else (),
            base=request.model,
            activation_bits=request.activation_bits,
        )


def _measured_blocks(recipe: Recipe) -> set[int]:
    """Blocks whose Grams are read: those with edits that are fitted, and those whose outliers must be known."""
    from edgeprune.compress.passes import weighed_blocks

    dynamic = {edit.name for edit in recipe.sites if parse_kernel(edit.kernel).kind == "dynamic_int8"}
    return weighed_blocks(recipe) | {int(name.split(".")[1]) for name in dynamic}


def _begin(progress: Progress, stage: str, message: str) -> None:
    progress.raise_if_cancelled()
    progress.emit(Event(kind="stage_started", stage=stage, message=message))
