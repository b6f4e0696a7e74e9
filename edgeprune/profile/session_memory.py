"""What a decoder's session occupies beside its weights: so much a node, and so much once.

A node's figure is the slope between decoders of few and many narrow blocks, run through the decode loop in processes
of their own; a session's is what the smaller one adds to the floor beyond its nodes, weights and cache.
"""

from dataclasses import dataclass

from edgeprune.profile.memory_child import MAX_TOKENS
from edgeprune.profile.observe import growth, observe_graph
from edgeprune.runtime.probe_graph_decoder import HEAD_DIM, decoder_graph

__all__ = ["FEW_BLOCKS", "MANY_BLOCKS", "SessionMemory", "observe_decoder", "session_memory"]

_KERNEL = "int4_b32_a4"
FEW_BLOCKS = 1
MANY_BLOCKS = 41
_CACHE_BYTES = 2 * MAX_TOKENS * HEAD_DIM * 4
"""Keys and values of one block, float32."""


@dataclass(frozen=True)
class SessionMemory:
    """Bytes of a node and of a session; None where the system does not tell."""

    node_bytes: int | None
    session_bytes: int | None


def observe_decoder(block_count: int, *, thread_count: int) -> int | None:
    """Peak bytes of a fresh process that runs a decoder of so many blocks."""
    graph = decoder_graph(block_count, kernel=_KERNEL)
    return observe_graph(graph, thread_count=thread_count).after_run[-1].peak_rss_bytes


def session_memory(*, few_peak: int | None, many_peak: int | None, floor_peak_bytes: int) -> SessionMemory:
    """Both figures from the peaks of decoders of `FEW_BLOCKS` and `MANY_BLOCKS`."""
    few, many = (decoder_graph(count, kernel=_KERNEL) for count in (FEW_BLOCKS, MANY_BLOCKS))
    added = growth(many_peak, few_peak)
    if added is None:
        return SessionMemory(None, None)
    added -= many.array_bytes - few.array_bytes + (MANY_BLOCKS - FEW_BLOCKS) * _CACHE_BYTES
    node_bytes = max(0, round(added / (len(many.nodes) - len(few.nodes))))
    session = growth(few_peak, floor_peak_bytes)
    if session is not None:
        session -= len(few.nodes) * node_bytes + few.array_bytes + FEW_BLOCKS * _CACHE_BYTES
    return SessionMemory(node_bytes or None, session if session is not None and session > 0 else None)
