"""Does the bundle still write text: the reference continuation, and a detector of endless repetition.

The manifest holds what torch continues a prompt with; the device continues the same prompt greedily. Different
kernels round differently, so a late difference is no failure; the number of leading tokens that agree is reported.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.generate import greedy
from edgeprune.runtime.isolate import run_isolated
from edgeprune.runtime.session import open_session
from edgeprune.schema.base import Record

__all__ = ["SanityAnswer", "SanityRequest", "has_loop", "matched_count", "measure_sanity", "run_sanity"]

_GENERATED_TOKENS = 64
_LONGEST_PERIOD = 8
_LOOP_TOKENS = 32
"""So many tokens at the end that repeat with a period of at most 8 are at least four rounds of the same."""


class SanityRequest(Record, frozen=True, kw_only=True):
    """A prompt and its reference continuation."""

    model: str
    execution_provider: str
    thread_count: int
    context_tokens: int
    prefill_chunk_tokens: int
    prompt: tuple[int, ...]
    reference: tuple[int, ...]
    stop: tuple[int, ...] = ()


class SanityAnswer(Record, frozen=True, kw_only=True):
    """What the device wrote."""

    tokens: tuple[int, ...]
    greedy_matched_count: int
    has_degenerate_loop: bool


def run_sanity(request: SanityRequest, *, timeout_s: float) -> SanityAnswer:
    """Generate in a fresh process.

    Raises:
        DeviceError: the process failed or ran out of memory or time.
        ModelError: the graph cannot be run.
    """
    reply = run_isolated(
        "edgeprune.validate.child_sanity",
        msgspec.json.encode(request),
        timeout_s=timeout_s,
        thread_count=request.thread_count,
    )
    return msgspec.json.decode(reply, type=SanityAnswer)


def measure_sanity(request: SanityRequest) -> SanityAnswer:
    """Generate in this process."""
    session = open_session(
        Path(request.model), execution_provider=request.execution_provider, thread_count=request.thread_count
    )
    decoder = Decoder(session, max_tokens=request.context_tokens, prefill_chunk_tokens=request.prefill_chunk_tokens)
    prompt = request.prompt[: request.context_tokens]
    # The last token is written without being fed back, so the context holds one more.
    room = request.context_tokens - len(prompt) + 1
    tokens = greedy(decoder, prompt, min(room, max(len(request.reference), _GENERATED_TOKENS)))
    ended = next((i for i, token in enumerate(tokens) if token in request.stop), len(tokens))
    return SanityAnswer(
        tokens=tuple(tokens),
        greedy_matched_count=matched_count(tokens, request.reference),
        has_degenerate_loop=has_loop(tokens[:ended]),
    )


def matched_count(tokens: Sequence[int], reference: Sequence[int]) -> int:
    """Leading tokens that agree."""
    count = 0
    for token, expected in zip(tokens, reference, strict=False):
        if token != expected:
            break
        count += 1
    return count


def has_loop(tokens: Sequence[int]) -> bool:
    """Whether the last 32 tokens repeat with a period of at most eight."""
    if len(tokens) < _LOOP_TOKENS:
        return False
    tail = list(tokens[-_LOOP_TOKENS:])
    return any(tail[period:] == tail[:-period] for period in range(1, _LONGEST_PERIOD + 1))
