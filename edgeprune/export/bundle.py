"""`export_bundle`: an edited model becomes a folder that a device can check and run with nothing else.

Takes the compressed model and what it was made for; writes graph, weights, configuration, tokenizer, evaluation sets,
model card and manifest into a temporary folder that takes its place only when parity with torch has held and every
file is hashed. A dense model, or one rounded to int8 or int4, is exported the same way: those are the baselines.
"""

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from msgspec.structs import replace as edit_record

from edgeprune.artifacts import atomic_folder, atomic_write, hash_file, hash_parts, write_record
from edgeprune.calibrate.cache_scales import cache_scales
from edgeprune.calibrate.kv_rounding import rounded_cache
from edgeprune.errors import ExportError
from edgeprune.export.card import bundle_card
from edgeprune.export.cleanup import OPSET
from edgeprune.export.evaluation import EvaluationChoices, EvaluationText, tokenize_text, write_choices, write_text
from edgeprune.export.genai_config import genai_config
from edgeprune.export.graph import build_graph
from edgeprune.export.half import halve_graph, halve_spec
from edgeprune.export.kv_cache import CACHE_ONNXRUNTIME, quantize_cache
from edgeprune.export.optimum import optimum_verdict
from edgeprune.export.parity import check_parity
from edgeprune.export.reference import with_choice_reference, with_text_reference
from edgeprune.export.tokenizer import write_tokenizer
from edgeprune.export.weights import write_model
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.budget import Budget, Workload
from edgeprune.schema.bundle import BundleFile, BundleManifest
from edgeprune.schema.estimate import Cost
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.recipe import Recipe
from edgeprune.shapes import with_kv_bits

__all__ = ["MANIFEST_FILE", "MINIMUM_ONNXRUNTIME", "WINDOW_TOKENS", "export_bundle"]

MANIFEST_FILE = "edgeprune.json"
CARD_FILE = "README.md"

MINIMUM_ONNXRUNTIME = "1.23"
"""Oldest onnxruntime that runs every operator a bundle may hold (GatherBlockQuantized with 8 bits came last)."""

WINDOW_TOKENS = 256
"""Longest window of an evaluation text; shorter where the context is."""

_PARITY_TOKENS = 512
_STAGE = "export"
_LICENSE_NAMES = ("license", "licence", "notice", "copying", "use_policy")


def export_bundle(
    loaded: LoadedModel,
    recipe: Recipe,
    *,
    folder: Path,
    label: str,
    workload: Workload,
    texts: Sequence[EvaluationText],
    choices: Sequence[EvaluationChoices],
    budget: Budget | None,
    predicted: Cost | None,
    versions: dict[str, str],
    progress: Progress,
    dense_bits_per_byte: Mapping[str, float] | None = None,
    calibration: Sequence[str] = (),
    base: Path | None = None,
    last_logits: bool = False,
    activation_bits: Literal[16, 32] = 32,
) -> BundleManifest:
    """Write a bundle; an existing folder is replaced once the new one is complete.

    Args:
        loaded: the model after the recipe.
        recipe: what was done to it.
        folder: where the bundle goes.
        label: `dense`, `int8`, `int4` or `recipe`.
        workload: its context is the longest text the bundle can take.
        texts: evaluation texts.
        choices: evaluation questions.
        budget: what it was made for; None for baselines.
        predicted: the expected cost, kept beside the measured one later.
        versions: tools that made it.
        progress: told of each step; may cancel between steps.
        dense_bits_per_byte: text name -> the dense model's figure on it, so that the bundle alone can be judged.
        calibration: documents that the scales of an 8-bit cache are measured on; reported texts are never among them.
        base: folder of the base model, whose licence files go along; None: the folder the model was loaded from.
        last_logits: the graph gives the logits after the last token of a prompt alone: prompts are quicker by the
            head's part, and scoring a text takes a run a token.
        activation_bits: 16 for a graph that computes in float16, its cache included, and stores float matrices so.

    Raises:
        ExportError: the context exceeds the model's positions, or the graph cannot be built.
        ParityError: the graph does not compute what torch computes.
        DeviceError: the disk is full.
        UsageError: the folder cannot be written.
        CalibrationError: an 8-bit cache without text to measure it on.
    """
    is_half = activation_bits == 16
    if is_half and recipe.kv_bits == 8:
        # onnxruntime 1.27 on the CPU: logits off by 6e-2 of the largest, where 7e-3 is float16's share.
        raise ExportError(
            "A cache of 8 bits is not exact beside activations in float16; take kv_bits out of the recipe, or export "
            "with --activations float32."
        )
    kv_bits = 16 if is_half else recipe.kv_bits
    spec = edit_record(loaded.spec, blocks=with_kv_bits(loaded.spec.blocks, kv_bits))
    spec = halve_spec(spec) if is_half else spec
    loaded = replace(loaded, spec=spec)
    if spec.position_kind == "learned" and workload.context_tokens > spec.max_positions:
        raise ExportError(
            f"{spec.name} has {spec.max_positions} positions, fewer than the context of {workload.context_tokens}; "
            "choose a smaller --context."
        )
    steps = _Steps(progress, label)
    optimum = optimum_verdict(spec, num_heads=loaded.model.config.num_attention_heads)
    scales = cache_scales(loaded, calibration, window_tokens=workload.context_tokens)
    minimum = MINIMUM_ONNXRUNTIME if scales is None else CACHE_ONNXRUNTIME
    # Torch computes with the cache as the bundle holds it, so that it stays the oracle.
    computing = contextlib.nullcontext() if scales is None else rounded_cache(loaded, scales)
    with atomic_folder(folder) as partial, computing:
        steps.begin("building the graph", 0.0)
        graph = build_graph(loaded, context_tokens=workload.context_tokens, last_logits=last_logits)
        steps.begin("writing weights", 0.2)
        if is_half:
            halve_graph(graph.model.graph)
        if scales is not None:
            quantize_cache(graph.model.graph, scales)
        graph.model.metadata_props["minimum_onnxruntime"] = minimum
        write_model(graph, partial)
        genai = genai_config(spec, graph.model.graph, context_tokens=workload.context_tokens)
        _write_json(partial / "genai_config.json", genai)
        _write_json(partial / "config.json", _hf_config(loaded, "float16" if is_half else "float32"))
        _write_json(partial / "generation_config.json", _generation_config(loaded, workload))
        write_tokenizer(loaded.tokenizer, loaded.folder, partial, spec=spec, context_tokens=workload.context_tokens)
        steps.begin("writing evaluation sets", 0.4)
        window = min(WINDOW_TOKENS, workload.context_tokens)
        dense_bits = dense_bits_per_byte or {}
        context = workload.context_tokens
        text_sets = tuple(write_text(text, loaded.tokenizer, partial, window_tokens=window) for text in texts)
        choice_sets = tuple(
            write_choices(questions, loaded.tokenizer, partial, context_tokens=context) for questions in choices
        )
        # A bundle is judged against torch's own figures, and the dense text loss is what others are held to; the
        # remaining baselines are only compared, and torch takes a minute for a few hundred questions.
        if label in ("recipe", "dense"):
            text_sets = tuple(
                with_text_reference(
                    text, loaded, partial, dense_bits_per_byte=dense_bits.get(text.name), progress=progress
                )
                for text in text_sets
            )
        if label == "recipe":
            choice_sets = tuple(
                with_choice_reference(questions, loaded, partial, context_tokens=context, progress=progress)
                for questions in choice_sets
            )
        steps.begin("comparing with torch", 0.5)
        tokens = _parity_tokens(loaded, texts, seed=recipe.seed)
        parity = check_parity(loaded, partial, tokens=tokens, workload=workload, is_half=is_half)
        steps.begin("hashing files", 0.9)
        if not _copy_licenses(loaded.folder if base is None else base, partial) and spec.license is None:
            steps.note(f"{spec.name} comes without a licence; find out before you pass the bundle on.")
        card = bundle_card(
            label=label,
            spec=spec,
            recipe=recipe,
            budget=budget,
            workload=workload,
            parity=parity,
            files=_files(partial),
            minimum_onnxruntime=minimum,
            optimum=optimum,
        )
        atomic_write(partial / CARD_FILE, card.encode("utf-8"))
        files = _files(partial)
        manifest = BundleManifest(
            label=label,
            files=files,
            files_sha256=hash_parts(files),
            spec=spec,
            recipe=recipe,
            budget=budget,
            workload=workload,
            predicted=predicted,
            texts=text_sets,
            choices=choice_sets,
            parity=parity,
            minimum_onnxruntime=minimum,
            opset=OPSET,
            license=spec.license,
            optimum=optimum,
            activation_bits=activation_bits,
            versions=dict(sorted(versions.items())),
            seed=recipe.seed,
        )
        write_record(partial / MANIFEST_FILE, manifest)
    steps.begin("bundle written", 1.0)
    return manifest


class _Steps:
    """Tells `Progress` what comes next, and stops where the user asked to."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._label = label

    def begin(self, what: str, fraction: float) -> None:
        self._progress.raise_if_cancelled()
        message = f"{self._label}: {what}"
        self._progress.emit(Event(kind="stage_advanced", stage=_STAGE, message=message, done_fraction=fraction))

    def note(self, message: str) -> None:
        self._progress.emit(Event(kind="noted", stage=_STAGE, message=f"{self._label}: {message}"))


def _files(folder: Path) -> tuple[BundleFile, ...]:
    """Every file written so far, in the order of their names."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        BundleFile(path=path.relative_to(folder).as_posix(), size_bytes=path.stat().st_size, sha256=hash_file(path))
        for path in paths
    )


def _parity_tokens(loaded: LoadedModel, texts: Sequence[EvaluationText], *, seed: int) -> list[int]:
    """The beginning of the first text; random tokens where there is none."""
    for text in texts:
        documents = [document[: 16 * _PARITY_TOKENS] for document in text.documents[:_PARITY_TOKENS]]
        tokens: list[int] = tokenize_text(loaded.tokenizer, documents).tokens[:_PARITY_TOKENS].tolist()
        if len(tokens) >= 2:
            return tokens
    # Vocabulary rows above the tokenizer's tokens are padding and were never trained.
    count = min(loaded.spec.vocab_size, loaded.tokenizer.get_vocab_size(with_added_tokens=True))
    random = np.random.default_rng(seed)
    drawn: list[int] = random.integers(0, count, size=_PARITY_TOKENS).tolist()
    return drawn


def _hf_config(loaded: LoadedModel, dtype: str) -> dict[str, Any]:
    """The configuration loaders look at for the model's kind and vocabulary, without this machine's paths."""
    config: dict[str, Any] = json.loads(loaded.model.config.to_json_string(use_diff=False))
    for key in ("_name_or_path", "per_layer_config", "edgeprune"):
        config.pop(key, None)
    config["dtype"] = dtype
    # Loaders that know one number for all blocks (optimum) allocate the cache by it; where blocks differ it stays the
    # dense model's, and the graph's inputs are what tells.
    counts = {block.num_kv_heads for block in loaded.spec.attention_blocks}
    if len(counts) == 1 and "num_key_value_heads" in config:
        config["num_key_value_heads"] = counts.pop()
    return config


def _generation_config(loaded: LoadedModel, workload: Workload) -> dict[str, Any]:
    spec = loaded.spec
    config: dict[str, Any] = {"do_sample": False, "max_length": workload.context_tokens}
    if spec.bos_token_id is not None:
        config["bos_token_id"] = spec.bos_token_id
    if spec.eos_token_ids:
        config["eos_token_id"] = list(spec.eos_token_ids)
    if spec.pad_token_id is not None:
        config["pad_token_id"] = spec.pad_token_id
    return config


def _copy_licenses(source: Path, folder: Path) -> bool:
    """Copy the base model's licence files; True when there was one."""
    found = [
        path
        for path in sorted(source.iterdir())
        if path.is_file() and path.name.lower().startswith(_LICENSE_NAMES) and path.stat().st_size < 1_000_000
    ]
    for path in found:
        shutil.copyfile(path, folder / path.name)
    return bool(found)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    atomic_write(path, (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8"))
