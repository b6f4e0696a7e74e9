"""What weights and nodes occupy once a session holds them, each measured in processes of their own.

A kernel's figure is the slope between a short and a long chain of sites with weights in a file beside the graph, as
bundles have them: code pages, threads and buffers that both chains share cancel. What counts as resident is what
`VmRSS` counts, so weights that stay mapped from the file are in it as far as they were touched.
"""

from edgeprune.profile.memory_child import MemoryReply
from edgeprune.profile.observe import observe_graph
from edgeprune.runtime.probe_graph import trivial_chain
from edgeprune.runtime.probe_graph_sites import site_chain
from edgeprune.schema.device import KernelMemory
from edgeprune.schema.kernel import stored_bytes

__all__ = ["measure_kernel_memory", "measure_node_bytes"]

_WIDTH = 512
_SHORT_COUNT = 4
_LONG_BYTES = 16 << 20
_NODE_COUNT = 1000


def measure_kernel_memory(kernel: str, *, thread_count: int) -> KernelMemory | None:
    """Resident and peak bytes per stored byte of a kernel's weights; None where the system does not tell."""
    site_bytes = stored_bytes(kernel, in_features=_WIDTH, out_features=_WIDTH)
    counts = (_SHORT_COUNT, _SHORT_COUNT + -(-_LONG_BYTES // site_bytes))
    short, long = (_observe_chain(kernel, count, thread_count) for count in counts)
    added = (counts[1] - counts[0]) * site_bytes
    resident = _difference(long.after_run[-1].rss_bytes, short.after_run[-1].rss_bytes)
    peak = _difference(long.after_run[-1].peak_rss_bytes, short.after_run[-1].peak_rss_bytes)
    if resident is None or peak is None:
        return None
    return KernelMemory(kernel=kernel, resident_fraction=resident / added, peak_fraction=peak / added)


def measure_node_bytes(*, thread_count: int, floor_peak_bytes: int) -> int | None:
    """Peak resident bytes that a further trivial node adds; None where the system does not tell."""
    reply = observe_graph(trivial_chain(_NODE_COUNT + 1), thread_count=thread_count)
    added = _difference(reply.after_run[-1].peak_rss_bytes, floor_peak_bytes)
    return None if added is None else round(added / _NODE_COUNT)


def _observe_chain(kernel: str, site_count: int, thread_count: int) -> MemoryReply:
    graph = site_chain(kernel, in_features=_WIDTH, out_features=_WIDTH, site_count=site_count)
    return observe_graph(graph, thread_count=thread_count, rows=(1,))


def _difference(more: int | None, less: int | None) -> int | None:
    """Bytes by which `more` exceeds `less`; None when either is unknown or the difference is no growth."""
    return None if more is None or less is None or more <= less else more - less
