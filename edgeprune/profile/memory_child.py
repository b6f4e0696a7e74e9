"""The measured process of the floor and of weights: open one graph, run it, and tell what became resident.

Run as `python -m edgeprune.profile.memory_child`. It imports what validation imports (numpy, onnxruntime, psutil,
msgspec) and nothing else, so that what a graph adds can be told from what any process of ours has.
"""

from pathlib import Path

import msgspec
import numpy as np

from edgeprune.runtime.isolate import answer
from edgeprune.runtime.memory import ProcessMemory, read_memory
from edgeprune.runtime.session import open_session
from edgeprune.schema.base import Record

__all__ = ["MemoryReply", "MemoryRequest"]


class MemoryRequest(Record, frozen=True, kw_only=True):
    """What to open and run."""

    model: str
    """Path of the graph."""
    thread_count: int
    rows: tuple[int, ...] = ()
    """Runs to make, one after another: a graph whose input is [batch, rows, features] is run with so many rows. Empty:
    a graph whose input has a fixed shape is run once."""


class MemoryReply(Record, frozen=True, kw_only=True):
    """Memory of the process as it went on."""

    before_load: ProcessMemory
    after_load: ProcessMemory
    after_run: tuple[ProcessMemory, ...]


def handle(request: bytes) -> bytes:
    """Answer one `MemoryRequest`."""
    asked = msgspec.json.decode(request, type=MemoryRequest)
    before = read_memory()
    session = open_session(Path(asked.model), thread_count=asked.thread_count)
    loaded = read_memory()
    after = []
    for rows in asked.rows or (1,):
        feeds = {}
        for value in session.get_inputs():
            sizes = {"batch": 1, "rows": rows}
            shape = [size if isinstance(size, int) else sizes[size] for size in value.shape]
            feeds[value.name] = np.full(shape, 0.5, dtype=np.float32)
        session.run(None, feeds)
        after.append(read_memory())
    return msgspec.json.encode(MemoryReply(before_load=before, after_load=loaded, after_run=tuple(after)))


if __name__ == "__main__":
    answer(handle)
