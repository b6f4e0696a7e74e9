"""Make what the demo ships for a device without torch: its shapes, its scores, and an int4 bundle to validate.

    python -m edgeprune.demo.ship

Runs the pieces of `edgeprune run` on the demo model with the domain medicine: the same texts, split, seed and kernels,
so that the scores are those a run would find. The bundle is plain int4; its evaluation sets are the demo's own report
text and questions, which no stage selects on. `demo.json` vouches for every file by its sha256.
"""

import argparse
import json
import logging
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from msgspec.structs import replace as edit_record

from edgeprune.artifacts import atomic_folder, hash_file, write_arrays, write_record
from edgeprune.calibrate.documents import read_documents, read_lines
from edgeprune.calibrate.loss import measure_loss
from edgeprune.calibrate.questions import read_questions
from edgeprune.calibrate.run import CalibrationRequest, CalibrationResult, calibrate
from edgeprune.chat_template import ChatTemplate
from edgeprune.compress.apply import compress_model
from edgeprune.demo.paths import (
    DEVICE_BUNDLE,
    DEVICE_MANIFEST,
    demo_choice_path,
    demo_device_path,
    demo_text_path,
)
from edgeprune.export.bundle import WINDOW_TOKENS, export_bundle
from edgeprune.export.evaluation import EvaluationChoices, EvaluationText, tokenize_text, window_spans
from edgeprune.export.reference import reference_accuracy
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.pipeline.request import DEMO_DOMAIN, complete_request, context_tokens, named
from edgeprune.pipeline.settings import BASELINES, KERNELS
from edgeprune.pipeline.versions import tool_versions
from edgeprune.schema.budget import Workload
from edgeprune.schema.bundle import BundleFile
from edgeprune.schema.demo import DemoManifest
from edgeprune.schema.events import NullProgress
from edgeprune.schema.questions import Question
from edgeprune.schema.run import RunRequest
from edgeprune.search.baselines import plain_recipe

__all__ = ["QUESTION_GROUPS", "document_bits_per_byte", "main", "question_groups", "ship"]

QUESTION_GROUPS = ("frequent", "rare")
"""How often the training text tells the facts that a set of questions asks for."""

_log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m edgeprune.demo.ship", description="Make the demo's device data.")
    parser.add_argument("--out", type=Path, default=demo_device_path(), help="folder to replace (default: the shipped)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="torch threads (default: all cores)")
    args = parser.parse_args(argv)
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    _log.setLevel(logging.INFO)
    torch.set_num_threads(args.threads)
    manifest = ship(args.out)
    size = sum(file.size_bytes for file in manifest.files)
    _log.info("%s: %d files, %.2f MB", args.out, len(manifest.files), size / 1e6)
    return 0


def ship(folder: Path, request: RunRequest | None = None) -> DemoManifest:
    """Write the device data of the demo to `folder`, which is replaced once everything is there.

    Args:
        folder: gets `demo.json`, `model.json`, `scores.json`, `scores.npz` and the bundle.
        request: what to calibrate on; None takes what `edgeprune run` takes without arguments.

    Raises:
        EdgePruneError: as the stages raise it.
    """
    completed = complete_request(request or RunRequest())
    assert completed.model is not None
    dense = load_model(Path(completed.model))
    dense = replace(dense, spec=named(dense.spec, completed))
    workload = Workload(context_tokens=context_tokens(completed, dense.spec))
    _log.info("scoring the edits of %s", dense.spec.name)
    result = _calibrate(dense, completed, workload)
    with atomic_folder(folder) as partial:
        write_record(partial / "model.json", dense.spec)
        write_record(partial / "scores.json", result.scores)
        write_arrays(partial / "scores.npz", result.arrays)
        _log.info("exporting the int4 bundle")
        bits, accuracy = _write_bundle(dense, result, workload, completed.seed, partial / DEVICE_BUNDLE)
        manifest = DemoManifest(
            files=_files(partial),
            model_hash=dense.spec.model_hash,
            context_tokens=workload.context_tokens,
            seed=completed.seed,
            dense_bits_per_byte=bits,
            dense_accuracy=accuracy,
            versions=dict(sorted(tool_versions().items())),
        )
        write_record(partial / DEVICE_MANIFEST, manifest)
    return manifest


def _calibrate(dense: LoadedModel, request: RunRequest, workload: Workload) -> CalibrationResult:
    with tempfile.TemporaryDirectory() as texts:
        return calibrate(
            dense,
            CalibrationRequest(
                domain=tuple(map(Path, request.domain)),
                general=tuple(map(Path, request.general)),
                evaluation=tuple(map(Path, request.evaluation)),
                context_tokens=workload.context_tokens,
                seed=request.seed,
                kernels=KERNELS,
            ),
            texts_folder=Path(texts),
            progress=NullProgress(),
        )


def _write_bundle(
    dense: LoadedModel, result: CalibrationResult, workload: Workload, seed: int, folder: Path
) -> tuple[dict[str, float], dict[str, float]]:
    """Export plain int4; returns the dense model's bits-per-byte and accuracy on the bundle's own evaluation sets."""
    texts = [
        EvaluationText(
            name=name,
            documents=read_documents([demo_text_path(domain, "report")], render=ChatTemplate(dense.folder)),
            description=f"demo, {domain}, report text",
        )
        for name, domain in (("domain", DEMO_DOMAIN), ("general", "general"))
    ]
    choices = [
        EvaluationChoices(name=group, questions=questions, description=f"demo, {DEMO_DOMAIN}, {group} facts")
        for group, questions in question_groups(demo_choice_path(DEMO_DOMAIN)).items()
    ]
    window = min(WINDOW_TOKENS, workload.context_tokens)
    bits = {text.name: document_bits_per_byte(dense, text.documents, window_tokens=window) for text in texts}
    recipe = plain_recipe(dense.spec, BASELINES["int4"], context_tokens=workload.context_tokens, seed=seed)
    recipe = edit_record(recipe, rounding=result.scores.rounding)
    manifest = export_bundle(
        compress_model(dense, recipe, result.stats, progress=NullProgress()),
        recipe,
        folder=folder,
        # Torch's own figures go into a bundle of this label alone, and the demo holds a device against them.
        label="recipe",
        workload=workload,
        texts=texts,
        choices=choices,
        budget=None,
        predicted=None,
        versions=tool_versions(),
        progress=NullProgress(),
        dense_bits_per_byte=bits,
    )
    accuracy = {
        entry.name: reference_accuracy(
            dense, folder / entry.path, context_tokens=workload.context_tokens, progress=NullProgress()
        )
        for entry in manifest.choices
    }
    return bits, accuracy


def document_bits_per_byte(loaded: LoadedModel, documents: Sequence[str], *, window_tokens: int) -> float:
    """Bits per UTF-8 byte of the scored tokens, windows cut from each document apart as bundles cut them."""
    text = tokenize_text(loaded.tokenizer, documents)
    spans = window_spans(text.offsets, window_tokens)
    nats, _ = measure_loss(loaded, [text.tokens[begin:end].tolist() for begin, end in spans])
    return nats / math.log(2) / sum(int(text.byte_counts[begin + 1 : end].sum()) for begin, end in spans)


def question_groups(path: Path) -> dict[str, list[Question]]:
    """The questions of a demo file by group, in the order of `QUESTION_GROUPS`."""
    groups = [json.loads(line)["group"] for _, line in read_lines(path)]
    questions = list(zip(groups, read_questions(path), strict=True))
    return {name: [question for group, question in questions if group == name] for name in QUESTION_GROUPS}


def _files(folder: Path) -> tuple[BundleFile, ...]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        BundleFile(path=path.relative_to(folder).as_posix(), size_bytes=path.stat().st_size, sha256=hash_file(path))
        for path in paths
    )


if __name__ == "__main__":
    sys.exit(main())
