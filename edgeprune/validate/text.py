"""Bits-per-byte of a bundle on a tokenised text.

Windows of `window_tokens` are cut from each document apart, one after another; the first token of a window is not
scored. The loss of the scored tokens is summed in nats (float64), divided by ln 2 and by the UTF-8 bytes those tokens
stand for, which makes models with different vocabularies comparable.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeprune.artifacts import read_arrays
from edgeprune.errors import ModelError
from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.isolate import run_isolated
from edgeprune.runtime.session import open_session
from edgeprune.schema.base import Record
from edgeprune.schema.bundle import TextSet
from edgeprune.schema.measurement import TextResult

__all__ = [
    "TextRequest",
    "check_offsets",
    "check_tokens",
    "cut_windows",
    "measure_text",
    "read_documents",
    "run_text",
    "token_log_probabilities",
    "window_log_probabilities",
]

_QUICK_WINDOW_COUNT = 64
_ROWS_AT_ONCE = 32
"""Rows of logits turned into probabilities at once: 32 rows of a vocabulary of 150,000 take 20 MB."""


class TextRequest(Record, frozen=True, kw_only=True):
    """One text to score."""

    model: str
    execution_provider: str
    thread_count: int
    prefill_chunk_tokens: int
    text: TextSet
    path: str
    """The .npz of `text`."""
    is_quick: bool = False


def run_text(request: TextRequest, *, timeout_s: float) -> TextResult:
    """Score in a fresh process.

    Raises:
        DeviceError: the process failed or ran out of memory or time.
        ModelError: the graph cannot be run or the text does not fit it.
    """
    reply = run_isolated(
        "edgeprune.validate.child_text",
        msgspec.json.encode(request),
        timeout_s=timeout_s,
        thread_count=request.thread_count,
    )
    return msgspec.json.decode(reply, type=TextResult)


def measure_text(request: TextRequest) -> TextResult:
    """Score in this process."""
    text = request.text
    tokens, offsets, token_bytes = read_documents(Path(request.path))
    session = open_session(
        Path(request.model), execution_provider=request.execution_provider, thread_count=request.thread_count
    )
    decoder = Decoder(session, max_tokens=text.window_tokens, prefill_chunk_tokens=request.prefill_chunk_tokens)
    check_tokens(tokens, decoder.vocab_size, where=request.path)
    # Only with bytes per token is a part of the text comparable; without them all of it is scored.
    limit = _QUICK_WINDOW_COUNT if request.is_quick and token_bytes is not None else None
    loss_nats, scored_count, scored_bytes = 0.0, 0, 0
    for number, (begin, end) in enumerate(cut_windows(offsets, text.window_tokens)):
        if limit is not None and number >= limit:
            break
        decoder.reset()
        loss_nats -= float(window_log_probabilities(decoder, tokens[begin:end]).sum())
        scored_count += end - begin - 1
        if token_bytes is not None:
            scored_bytes += int(token_bytes[begin + 1 : end].sum())
    if token_bytes is None:
        scored_bytes = text.scored_bytes
    if not math.isfinite(loss_nats):
        raise ModelError(f"{request.model} computes NaN or Inf on the text {text.name}; its weights are damaged.")
    if scored_count == 0 or scored_bytes <= 0:
        raise ModelError(f"{request.path} holds no token that can be scored; export the bundle with more text.")
    return TextResult(
        name=text.name,
        bits_per_byte=loss_nats / math.log(2.0) / scored_bytes,
        loss_nats=loss_nats / scored_count,
        scored_token_count=scored_count,
        scored_bytes=scored_bytes,
    )


def read_documents(path: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """Tokens, offsets and, where given, UTF-8 bytes of each token.

    Raises:
        ModelError: missing arrays, or offsets that do not cut the tokens.
    """
    arrays = read_arrays(path)
    if "tokens" not in arrays or "offsets" not in arrays:
        raise ModelError(f"{path} has no arrays named tokens and offsets; export the bundle again.")
    tokens, offsets, token_bytes = arrays["tokens"], arrays["offsets"], arrays.get("token_bytes")
    check_offsets(tokens, offsets, where=str(path))
    if token_bytes is not None and token_bytes.shape != tokens.shape:
        raise ModelError(f"{path} gives the bytes of {token_bytes.size} tokens and has {tokens.size}; export again.")
    return tokens, offsets, token_bytes


def check_offsets(tokens: NDArray[Any], offsets: NDArray[Any], *, where: str) -> None:
    """Refuse offsets that do not run from 0 to the number of tokens without going back."""
    is_integer = tokens.dtype.kind in "iu" and offsets.dtype.kind in "iu" and tokens.ndim == offsets.ndim == 1
    if not is_integer or offsets.size < 1 or offsets[0] != 0 or offsets[-1] != tokens.size:
        raise ModelError(f"{where} is malformed: its offsets do not cover its tokens; export the bundle again.")
    if np.any(np.diff(offsets.astype(np.int64)) < 0):
        raise ModelError(f"{where} is malformed: its offsets go backwards; export the bundle again.")


def check_tokens(tokens: NDArray[Any], vocab_size: int, *, where: str) -> None:
    """Refuse tokens that the model's table does not have."""
    if tokens.size and (tokens.min() < 0 or tokens.max() >= vocab_size):
        raise ModelError(
            f"{where} has tokens outside 0..{vocab_size - 1}, the model's vocabulary; export the bundle again."
        )


def cut_windows(offsets: NDArray[Any], window_tokens: int) -> Iterator[tuple[int, int]]:
    """Begin and end of every window that has a token to score (at least two tokens)."""
    for first, last in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        for begin in range(first, last, window_tokens):
            end = min(begin + window_tokens, last)
            if end - begin >= 2:
                yield begin, end


def window_log_probabilities(decoder: Decoder, window: NDArray[Any]) -> NDArray[np.float64]:
    """Log-probability of each token after the first, given those before it, from the decoder's position."""
    targets = window[1:]
    found: list[NDArray[np.float64]] = []
    position = 0
    for logits in decoder.logits(window[:-1]):
        found.append(token_log_probabilities(logits, targets[position : position + len(logits)]))
        position += len(logits)
    return np.concatenate(found)


def token_log_probabilities(logits: NDArray[np.float32], targets: NDArray[Any]) -> NDArray[np.float64]:
    """Take log softmax(logits)[row, target] with sums in float64; logits: [n, vocab], targets: [n]."""
    result = np.empty(len(targets), dtype=np.float64)
    for start in range(0, len(targets), _ROWS_AT_ONCE):
        rows = logits[start : start + _ROWS_AT_ONCE]
        chosen = targets[start : start + _ROWS_AT_ONCE]
        top = rows.max(axis=1, keepdims=True)
        total = np.exp(rows - top).sum(axis=1, dtype=np.float64)
        picked = rows[np.arange(len(chosen)), chosen].astype(np.float64)
        result[start : start + len(chosen)] = picked - top[:, 0] - np.log(total)
    return result
