"""The measured process of the floor and of weights: open one graph, run it, and tell what became resident.

Run as `python -m edgeprune.profile.memory_child`. It imports what validation and the floor import (numpy,
onnxruntime, psutil, msgspec and our modules over them), so that what a graph adds is all that differs from the floor.
"""

import importlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.floor import VALIDATION_IMPORTS
from edgeprune.runtime.isolate import answer
from edgeprune.runtime.memory import ProcessMemory, read_memory
from edgeprune.runtime.session import open_session
from edgeprune.schema.base import Record

__all__ = ["MAX_TOKENS", "MemoryReply", "MemoryRequest"]

MAX_TOKENS = 64
"""Tokens a decoder is fed."""
_PROMPT_TOKENS = 16


class MemoryRequest(Record, frozen=True, kw_only=True):
    """What to open and run."""

    model: str
    """Path of the graph."""
    thread_count: int
    rows: tuple[int, ...] = ()
    """Runs to make, one after another: a graph whose input is [batch, rows, features] is run with so many rows. Empty:
    a graph whose input has a fixed shape is run once, and a decoder is fed a prompt and some tokens."""


class MemoryReply(Record, frozen=True, kw_only=True):
    """Memory of the process as it went on."""

    before_load: ProcessMemory
    after_load: ProcessMemory
    after_run: tuple[ProcessMemory, ...]


def handle(request: bytes) -> bytes:
    """Answer one `MemoryRequest`."""
    asked = msgspec.json.decode(request, type=MemoryRequest)
    for name in VALIDATION_IMPORTS:
        importlib.import_module(name)
    before = read_memory()
    session = open_session(Path(asked.model), thread_count=asked.thread_count)
    loaded = read_memory()
    after = []
    if any(value.name == "input_ids" for value in session.get_inputs()):
        _decode(session)
        after.append(read_memory())
    else:
        for rows in asked.rows or (1,):
            _run(session, rows)
            after.append(read_memory())
    return msgspec.json.encode(MemoryReply(before_load=before, after_load=loaded, after_run=tuple(after)))


def _decode(session: Any) -> None:
    decoder = Decoder(session, max_tokens=MAX_TOKENS, prefill_chunk_tokens=_PROMPT_TOKENS)
    decoder.prefill([1] * _PROMPT_TOKENS)
    for _ in range(MAX_TOKENS - _PROMPT_TOKENS):
        decoder.step(1)


def _run(session: Any, rows: int) -> None:
    feeds = {}
    for value in session.get_inputs():
        sizes = {"batch": 1, "rows": rows}
        shape = [size if isinstance(size, int) else sizes[size] for size in value.shape]
        feeds[value.name] = np.full(shape, 0.5, dtype=np.float32)
    session.run(None, feeds)


if __name__ == "__main__":
    answer(handle)
