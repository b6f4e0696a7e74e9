"""Load, prefill and decode of one bundle in a fresh process: time and memory of the same run.

The prompt fills the context except for the decoded tokens; then tokens are decoded up to the end of the context, so
attention works on as many keys as it ever will. A token's time covers feeding it and choosing the next. Files were
hashed just before, so loading is timed with a warm page cache.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.energy import open_energy_meter
from edgeprune.runtime.huge_pages import huge_page_bytes
from edgeprune.runtime.isolate import run_isolated
from edgeprune.runtime.session import import_onnxruntime, open_session
from edgeprune.runtime.timing import summarize
from edgeprune.schema.base import Record
from edgeprune.schema.measurement import EnergyResult, LatencySamples, MemoryStage
from edgeprune.validate.energy import measure_energy
from edgeprune.validate.memory import StageRecorder

__all__ = ["SpeedAnswer", "SpeedRequest", "decode_lengths", "lowest_median_s", "measure_speed", "run_speed"]

_PROMPT_STRIDE = 40_503
"""Spreads the prompt over the vocabulary; numpy.random would add 2.7 MB to what is measured."""


class SpeedRequest(Record, frozen=True, kw_only=True):
    """One process's work."""

    model: str
    execution_provider: str
    thread_count: int
    context_tokens: int
    prefill_chunk_tokens: int
    decode_tokens: int


class SpeedAnswer(Record, frozen=True, kw_only=True):
    """What one process measured."""

    load_time_s: float
    prefill_s: float
    decode: LatencySamples
    stages: tuple[MemoryStage, ...]
    is_cache_shared: bool
    energy: EnergyResult | None = None
    huge_page_bytes: int | None = None


def decode_lengths(context_tokens: int, decode_tokens: int) -> tuple[int, int]:
    """Prompt and decoded tokens that fill the context together; one too short for both is halved."""
    decoded = decode_tokens if decode_tokens < context_tokens else max(1, context_tokens // 2)
    return context_tokens - decoded, decoded


def run_speed(request: SpeedRequest, *, timeout_s: float) -> SpeedAnswer:
    """Measure in a fresh process.

    Raises:
        DeviceError: the process failed or ran out of memory or time.
        ModelError: the graph cannot be run.
    """
    reply = run_isolated(
        "edgeprune.validate.child_speed",
        msgspec.json.encode(request),
        timeout_s=timeout_s,
        thread_count=request.thread_count,
    )
    return msgspec.json.decode(reply, type=SpeedAnswer)


def measure_speed(request: SpeedRequest) -> SpeedAnswer:
    """Measure in this process, which must not have run a model before."""
    prompt_count, decode_count = decode_lengths(request.context_tokens, request.decode_tokens)
    import_onnxruntime()  # importing is part of the floor, not of loading
    memory = StageRecorder(request.execution_provider)
    start_s = time.perf_counter()
    session = open_session(
        Path(request.model), execution_provider=request.execution_provider, thread_count=request.thread_count
    )
    decoder = Decoder(session, max_tokens=request.context_tokens, prefill_chunk_tokens=request.prefill_chunk_tokens)
    load_time_s = time.perf_counter() - start_s
    memory.end("load")
    prompt = np.arange(prompt_count, dtype=np.int64) * _PROMPT_STRIDE % decoder.vocab_size
    start_s = time.perf_counter()
    token = int(decoder.prefill(prompt).argmax())
    prefill_s = time.perf_counter() - start_s
    memory.end("prefill")
    samples_s = []
    for _ in range(decode_count):
        start_s = time.perf_counter()
        token = int(decoder.step(token).argmax())
        samples_s.append(time.perf_counter() - start_s)
    memory.end("decode")
    in_huge_pages = huge_page_bytes()
    meter = open_energy_meter(request.execution_provider)
    return SpeedAnswer(
        load_time_s=load_time_s,
        prefill_s=prefill_s,
        decode=summarize(samples_s),
        stages=memory.stages,
        is_cache_shared=decoder.is_cache_shared,
        energy=None if meter is None else measure_energy(decoder, meter, start=prompt_count, count=decode_count),
        huge_page_bytes=in_huge_pages,
    )


def lowest_median_s(processes: Sequence[LatencySamples]) -> float | None:
    """The lowest median over the processes: disturbance only ever adds time. None when nothing was measured."""
    return min((samples.median_s for samples in processes), default=None)
