"""What a probe graph makes resident, seen from a fresh process that opens and runs it."""

import tempfile
from pathlib import Path

import msgspec

from edgeprune.profile.memory_child import MemoryReply, MemoryRequest
from edgeprune.runtime.isolate import run_isolated
from edgeprune.runtime.probe_graph import Graph

__all__ = ["growth", "observe_graph"]

_CHILD_TIMEOUT_S = 120.0


def observe_graph(graph: Graph, *, thread_count: int, rows: tuple[int, ...] = ()) -> MemoryReply:
    """Memory of a fresh process that opens a graph, its arrays in a file beside it, and runs it."""
    with tempfile.TemporaryDirectory(prefix="edgeprune-probe-") as folder:
        request = MemoryRequest(model=str(graph.write(Path(folder))), thread_count=thread_count, rows=rows)
        reply = run_isolated(
            "edgeprune.profile.memory_child",
            msgspec.json.encode(request),
            timeout_s=_CHILD_TIMEOUT_S,
            thread_count=thread_count,
        )
    return msgspec.json.decode(reply, type=MemoryReply)


def growth(more: int | None, less: int | None) -> int | None:
    """Bytes by which `more` exceeds `less`; None when either is unknown or there is no growth."""
    return None if more is None or less is None or more <= less else more - less
