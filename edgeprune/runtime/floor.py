"""The floor: peak resident memory of a process that imports what validation imports and runs a one-node session.

`measure_floor` starts this module as a process of its own; profiling and validation take the same number.
"""

import importlib

import msgspec
import numpy as np

from edgeprune.runtime.isolate import answer, run_isolated
from edgeprune.runtime.memory import ProcessMemory, read_memory
from edgeprune.runtime.probe_graph import trivial_chain
from edgeprune.runtime.session import CPU_PROVIDER, open_session
from edgeprune.schema.base import Record
from edgeprune.schema.device import Floor

__all__ = ["VALIDATION_IMPORTS", "FloorRequest", "measure_floor"]

VALIDATION_IMPORTS = ("edgeprune.runtime.decode", "edgeprune.runtime.timing", "edgeprune.schema.measurement")
"""What validation's process that measures memory loads; a test holds the two against each other."""


class FloorRequest(Record, frozen=True, kw_only=True):
    """How the one-node session is opened."""

    execution_provider: str
    thread_count: int


def measure_floor(
    *, thread_count: int, execution_provider: str = CPU_PROVIDER, timeout_s: float = 300.0
) -> Floor | None:
    """Measure the floor in a fresh process; None where the system does not tell the peak.

    Raises:
        DeviceError: the process failed.
    """
    request = FloorRequest(execution_provider=execution_provider, thread_count=thread_count)
    reply = run_isolated(
        "edgeprune.runtime.floor", msgspec.json.encode(request), timeout_s=timeout_s, thread_count=thread_count
    )
    memory = msgspec.json.decode(reply, type=ProcessMemory)
    if memory.peak_rss_bytes is None:
        return None
    return Floor(peak_rss_bytes=memory.peak_rss_bytes, anonymous_bytes=memory.anonymous_bytes)


def _handle(request: bytes) -> bytes:
    settings = msgspec.json.decode(request, type=FloorRequest)
    for name in VALIDATION_IMPORTS:
        importlib.import_module(name)
    session = open_session(
        trivial_chain(1).to_bytes(),
        execution_provider=settings.execution_provider,
        thread_count=settings.thread_count,
    )
    session.run(None, {"x0": np.ones(1, dtype=np.float32)})
    return msgspec.json.encode(read_memory())


if __name__ == "__main__":
    answer(_handle)
