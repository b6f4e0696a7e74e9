"""What weights occupy once a session holds them, each kernel measured in processes of its own.

A kernel's figure is the slope between a short and a long chain of sites with weights in a file beside the graph, as
bundles have them: code pages, threads and buffers that both chains share cancel, and the nodes of the longer chain are
taken off. What counts as resident is what `VmRSS` counts, so weights that stay mapped from the file are in it as far
as they were touched.
"""

from edgeprune.profile.memory_child import MemoryReply
from edgeprune.profile.observe import growth, observe_graph
from edgeprune.runtime.probe_graph_sites import site_chain
from edgeprune.schema.device import KernelMemory
from edgeprune.schema.kernel import stored_bytes

__all__ = ["measure_kernel_memory"]

_WIDTH = 768
_SHORT_COUNT = 2
_LONG_BYTES = 16 << 20


def measure_kernel_memory(kernel: str, *, thread_count: int, node_bytes: int) -> KernelMemory | None:
    """Resident and peak bytes per stored byte of a kernel's weights; None where the system does not tell."""
    site_bytes = stored_bytes(kernel, in_features=_WIDTH, out_features=_WIDTH)
    added_count = -(-_LONG_BYTES // site_bytes)
    short, long = (_observe_chain(kernel, count, thread_count) for count in (_SHORT_COUNT, _SHORT_COUNT + added_count))
    resident = growth(long.after_run[-1].rss_bytes, short.after_run[-1].rss_bytes)
    peak = growth(long.after_run[-1].peak_rss_bytes, short.after_run[-1].peak_rss_bytes)
    if resident is None or peak is None:
        return None
    stored, nodes = added_count * site_bytes, added_count * node_bytes
    return KernelMemory(
        kernel=kernel, resident_fraction=(resident - nodes) / stored, peak_fraction=(peak - nodes) / stored
    )


def _observe_chain(kernel: str, site_count: int, thread_count: int) -> MemoryReply:
    graph = site_chain(kernel, in_features=_WIDTH, out_features=_WIDTH, site_count=site_count)
    return observe_graph(graph, thread_count=thread_count, rows=(1,))
