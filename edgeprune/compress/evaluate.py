"""`evaluate_bytes`: one recipe really built and measured, as a function from bytes to bytes for any executor.

Takes an `EvaluationTask` as JSON, gives an `Evaluation` as JSON. The recipe is applied as `compress_model` applies it,
weights rounded as the exported kernels round them, keys and values as its cache holds them, and the losses are measured
on selection text only. A vocabulary edit changes the tokenizer, so losses are compared per byte and given per token of
the dense tokenizer:

    increase = (nats' / bytes' - nats / bytes) * bytes / tokens                                   (1)

The dense model, its statistics and its own losses are kept between calls of one process, one of each.
"""

import dataclasses
import functools
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from edgeprune.calibrate.answers import AskedQuestions
from edgeprune.calibrate.cache_scales import cache_documents, cache_scales
from edgeprune.calibrate.corpus import encode, read_split
from edgeprune.calibrate.kv_rounding import rounded_cache
from edgeprune.calibrate.loss import cut_windows, measure_loss
from edgeprune.calibrate.questions import read_questions
from edgeprune.calibrate.selection import Selection, prepare_selection
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.calibrate.token_bytes import token_byte_lengths
from edgeprune.compress.apply import compress_model
from edgeprune.errors import CalibrationError
from edgeprune.intake.load import LoadedModel
from edgeprune.intake.load_once import load_once
from edgeprune.schema.events import NullProgress, Progress
from edgeprune.schema.questions import Question
from edgeprune.schema.residuals import Evaluation, EvaluationTask

__all__ = ["evaluate", "evaluate_bytes", "forget"]

_DIGITS = 6
"""Decimals of a loss that are kept: threads and processors change the seventh."""


class _Loss(NamedTuple):
    increase_nats: float
    relative: float


def evaluate_bytes(payload: bytes) -> bytes:
    """JSON of an `EvaluationTask` to JSON of its `Evaluation`."""
    task = msgspec.json.decode(payload, type=EvaluationTask)
    return msgspec.json.encode(evaluate(task), order="deterministic")


@torch.no_grad()
def evaluate(task: EvaluationTask, *, progress: Progress | None = None) -> Evaluation:
    """Build the recipe and measure it.

    Raises:
        UsageError: the recipe does not fit the model.
        ModelError: the model or its statistics cannot be read.
        CalibrationError: the texts are missing or damaged.
    """
    watch = progress or NullProgress()
    loaded = load_once(task.model, task.model_hash)
    stats = _stats(task.stats, task.stats_hash)
    if task.refresh_tokens is not None:
        count = max(1, task.refresh_tokens // stats.tokens.shape[1])
        stats = dataclasses.replace(stats, tokens=stats.tokens[:count])
    compressed = compress_model(loaded, task.recipe, stats, progress=watch, texts=Path(task.texts))
    selection = _selection(task.model, task.model_hash, task.texts, task.texts_hash, "domain", *_limits(task))
    general: _Loss | None = None
    accuracy = None
    with _cache_of(compressed, task):
        domain = _loss(compressed, loaded, selection, watch)
        if task.general_token_limit > 0:
            limits = (task.window_tokens, task.general_token_limit)
            beside = _selection(task.model, task.model_hash, task.texts, task.texts_hash, "general", *limits)
            general = _loss(compressed, loaded, beside, watch)
        if task.questions is not None:
            questions = _questions(task.questions, task.questions_hash)
            asked = AskedQuestions(compressed, questions, context_tokens=task.recipe.context_tokens)
            accuracy = asked.ask(compressed, progress=watch).accuracy
    return Evaluation(
        key=task.key,
        recipe_hash=task.recipe_hash,
        recipe=task.recipe,
        loss_increase_nats=domain.increase_nats,
        relative_loss=domain.relative,
        general_loss_increase_nats=None if general is None else general.increase_nats,
        general_relative_loss=None if general is None else general.relative,
        accuracy=accuracy,
        token_limit=task.token_limit,
        scored_tokens=selection.scored_tokens,
    )


def forget() -> None:
    """Free what is kept between calls."""
    for cached in (load_once, _stats, _selection, _questions):
        cached.cache_clear()


def _cache_of(compressed: LoadedModel, task: EvaluationTask) -> AbstractContextManager[None]:
    """The key-value cache a bundle of the recipe would have."""
    if task.recipe.kv_bits != 8:
        return nullcontext()
    scales = cache_scales(compressed, cache_documents(Path(task.texts)), window_tokens=task.window_tokens)
    return nullcontext() if scales is None else rounded_cache(compressed, scales)


def _limits(task: EvaluationTask) -> tuple[int, int]:
    return task.window_tokens, task.token_limit


def _loss(compressed: LoadedModel, dense: LoadedModel, selection: Selection, progress: Progress) -> _Loss:
    """The compressed model against the dense one on the same documents."""
    if compressed.tokenizer is dense.tokenizer:
        nats, _ = measure_loss(compressed, selection.windows, progress=progress)
        scored_bytes = selection.scored_bytes
    else:
        windows = cut_windows(encode(compressed.tokenizer, selection.documents), selection.window_tokens)
        nats, _ = measure_loss(compressed, windows, progress=progress)
        lengths = token_byte_lengths(compressed.tokenizer)
        scored_bytes = sum(int(lengths[window[1:]].sum()) for window in windows)
    dense_rate = selection.nats / selection.scored_bytes
    per_byte = nats / scored_bytes - dense_rate
    increase = per_byte * selection.scored_bytes / selection.scored_tokens  # eq. (1)
    return _Loss(increase_nats=round(increase, _DIGITS), relative=round(per_byte / dense_rate, _DIGITS))


# The hashes are part of what the caches go by: a file rewritten under the same name is read again.
@functools.lru_cache(maxsize=1)
def _stats(path: str, _stats_hash: str) -> CalibrationStats:
    return CalibrationStats.load(Path(path))


@functools.lru_cache(maxsize=1)
def _questions(path: str, _questions_hash: str | None) -> list[Question]:
    return read_questions(Path(path))


@functools.lru_cache(maxsize=4)
def _selection(
    model: str, model_hash: str, texts: str, _texts_hash: str, name: str, window_tokens: int, token_limit: int
) -> Selection:
    """Selection documents with the dense model's loss on them."""
    loaded = load_once(model, model_hash)
    documents = read_split(Path(texts), name, "select")
    if not documents:
        raise CalibrationError(f"{texts} holds no {name} selection text; calibrate again with more text.")
    return prepare_selection(
        loaded,
        documents,
        encode(loaded.tokenizer, documents),
        byte_lengths=token_byte_lengths(loaded.tokenizer),
        window_tokens=window_tokens,
        limit_tokens=token_limit,
        progress=NullProgress(),
    )
