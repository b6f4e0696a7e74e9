"""The calibrate stage: texts in, statistics and scores out.

`calibrate` reads and splits the user's texts, lets the model write general text where none is given, measures the
model in one streamed pass, and scores every edit. It leaves the texts in the run folder, so that no later stage needs
the user's files.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from edgeprune.artifacts import hash_parts
from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.corpus import (
    DocumentTokens,
    check_amount,
    encode,
    pack_windows,
    read_parts,
    separator_token,
    write_corpus,
)
from edgeprune.calibrate.documents import read_documents
from edgeprune.calibrate.generate import generate_documents
from edgeprune.calibrate.score import score_model
from edgeprune.calibrate.selection import prepare_selection
from edgeprune.calibrate.shards import capture_sharded, output_gram_bytes
from edgeprune.calibrate.split import Split, split_by_hash, split_by_rank
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.calibrate.token_bytes import token_byte_lengths
from edgeprune.chat_template import ChatTemplate
from edgeprune.errors import CalibrationError
from edgeprune.intake.load import LoadedModel
from edgeprune.runtime.executor import Executor
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.recipe import RoundingMethod
from edgeprune.schema.scores import CalibrationSummary, ScoreArrays, Scores

__all__ = ["CalibrationRequest", "CalibrationResult", "calibrate"]

_LARGEST_WINDOW = 1024
"""Tokens of a calibration window: longer contexts would leave too few windows to tell the halves apart."""
_EVALUATION_WINDOW = 256
"""Tokens of a window whose loss is measured, as validation cuts them."""


@dataclass(frozen=True, kw_only=True)
class CalibrationRequest:
    """What to calibrate on."""

    domain: tuple[Path, ...]
    general: tuple[Path, ...] = ()
    """None given: the model writes its own."""
    evaluation: tuple[Path, ...] = ()
    """None given: a fifth of the domain text is kept for the report."""
    context_tokens: int
    seed: int
    kernels: tuple[str, ...]
    rounding: RoundingMethod = "gptq"
    """How compression will round weights to integers, which their losses are told for."""
    domain_token_limit: int = 32_768
    """Domain tokens run through the model; token counts use all of them."""
    general_token_limit: int = 8_192
    selection_token_limit: int = 4_096
    """Tokens each measured edit is run on."""
    gradient_token_limit: int = 8_192
    """Tokens run backwards."""
    output_gram_bytes: int = 1 << 30
    """Most that the second moments of the gradients of all sites' outputs may take; low rank goes without them where
    they would take more. 0 is always without."""
    general_selection_token_limit: int = 2_048
    """General tokens each measured edit is run on as well; half of the domain's, since every edit is fitted there."""
    general_gradient_token_limit: int = 4_096
    """General tokens run backwards."""


@dataclass(frozen=True, kw_only=True)
class CalibrationResult:
    """What the stage hands on."""

    stats: CalibrationStats
    scores: Scores
    arrays: ScoreArrays


def calibrate(
    loaded: LoadedModel,
    request: CalibrationRequest,
    *,
    texts_folder: Path,
    progress: Progress,
    shards_folder: Path | None = None,
    executor: Executor | None = None,
) -> CalibrationResult:
    """Measure and score a dense model on the user's texts.

    Args:
        loaded: the dense model; not changed.
        request: texts and settings.
        texts_folder: where the texts, split, are left.
        progress: told all along.
        shards_folder: where finished parts of the measurement wait for the others, so that an interrupted one goes on;
            None keeps them in a temporary folder.
        executor: where the parts are measured; None measures them here. The result does not depend on it.

    Raises:
        CalibrationError: texts that cannot be used, or too little of them.
    """
    if not request.domain:
        raise CalibrationError("There is no domain text; name files or folders with --domain.")
    template = ChatTemplate(loaded.folder)
    domain = read_parts(request.domain, request.evaluation, render=template)
    domain_tokens = check_amount(domain, loaded.tokenizer, what="domain")
    general, general_tokens, general_source = _general(loaded, request, template, progress)
    write_corpus(texts_folder, "domain", domain)
    write_corpus(texts_folder, "general", general)
    _tell(progress, f"{_size(domain_tokens['calibrate']):,} domain tokens to calibrate on")

    window_tokens = min(request.context_tokens, loaded.spec.max_positions, _LARGEST_WINDOW)
    separator = separator_token(loaded.spec)
    vocab_size = loaded.spec.vocab_size
    stats = capture_sharded(
        loaded,
        pack_windows(
            domain_tokens["calibrate"],
            separator=separator,
            window_tokens=window_tokens,
            limit_tokens=request.domain_token_limit,
        ),
        general_tokens=pack_windows(
            general_tokens["calibrate"],
            separator=separator,
            window_tokens=window_tokens,
            limit_tokens=request.general_token_limit,
        ),
        token_count=_count(domain_tokens["calibrate"], vocab_size),
        general_token_count=_count(general_tokens["calibrate"], vocab_size),
        folder=shards_folder,
        executor=executor,
        gradient_tokens=request.gradient_token_limit,
        with_output_gram=output_gram_bytes(loaded.spec) <= request.output_gram_bytes,
        progress=progress,
    )
    general_stats = None
    if stats.general_tokens.numel():
        general_stats = capture(
            loaded, stats.general_tokens, gradient_tokens=request.general_gradient_token_limit, progress=None
        )
    byte_lengths = token_byte_lengths(loaded.tokenizer)
    evaluation_window = min(request.context_tokens, loaded.spec.max_positions, _EVALUATION_WINDOW)
    selections = {
        name: prepare_selection(
            loaded,
            split.select,
            tokens["select"],
            byte_lengths=byte_lengths,
            window_tokens=evaluation_window,
            limit_tokens=limit,
            progress=progress,
        )
        for name, split, tokens, limit in (
            ("domain", domain, domain_tokens, request.selection_token_limit),
            ("general", general, general_tokens, request.general_selection_token_limit),
        )
    }
    summary = CalibrationSummary(
        domain_token_count=_size(domain_tokens["calibrate"]),
        general_token_count=_size(general_tokens["calibrate"]),
        document_count=len(domain.calibrate),
        stability=stats.stability,
        sequence_tokens=window_tokens,
        data_hash=hash_parts(domain.parts(), general.parts(), request.seed),
        edits_hash=stats.edits_hash,
        general_source=general_source,
    )
    scores, arrays = score_model(
        loaded,
        stats,
        kernels=request.kernels,
        rounding=request.rounding,
        domain=selections["domain"],
        general=selections["general"],
        calibration=summary,
        seed=request.seed,
        progress=progress,
        general_stats=general_stats,
    )
    return CalibrationResult(stats=stats, scores=scores, arrays=arrays)


def _general(
    loaded: LoadedModel, request: CalibrationRequest, template: ChatTemplate, progress: Progress
) -> tuple[Split, dict[str, DocumentTokens], str]:
    """General text, its tokens, and where it comes from."""
    if request.general:
        split = split_by_hash(read_documents(request.general, render=template))
        source = ", ".join(map(str, request.general))
        return split, check_amount(split, loaded.tokenizer, what="general"), source
    split = split_by_rank(generate_documents(loaded, seed=request.seed, progress=progress))
    tokens = {part: encode(loaded.tokenizer, documents) for part, documents in split.parts().items()}
    return split, tokens, f"generated by the model (seed {request.seed})"


def _size(documents: DocumentTokens) -> int:
    return sum(map(len, documents))


def _count(documents: DocumentTokens, vocab_size: int) -> torch.Tensor:
    ids = torch.tensor([token for document in documents for token in document], dtype=torch.int64)
    return torch.bincount(ids, minlength=vocab_size)


def _tell(progress: Progress, message: str) -> None:
    progress.emit(Event(kind="stage_advanced", stage="calibrate", message=message))
