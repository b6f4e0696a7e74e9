"""Fixed costs of running a graph: of a run, a node, a bound pair, and a norm's element.

Nodes, pairs and norms are slopes between short and long graphs, timed in turns; where noise makes a slope negative the
figure is None, not 0. A run and a bound pair are timed through the decode loop, whose own work they include: for small
models that is a good part of a token's time.
"""

import time
from dataclasses import dataclass

import numpy as np

from edgeprune.profile.bound_graph import BoundGraph
from edgeprune.profile.rounds import quiet_times
from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.probe_graph import Graph, norm_chain, trivial_chain
from edgeprune.runtime.probe_graph_decoder import cache_graph
from edgeprune.runtime.probe_graph_sites import site_chain
from edgeprune.runtime.session import open_session
from edgeprune.schema.device import RuntimeOverhead

__all__ = ["Overhead", "measure_overhead"]

_NODE_COUNT = 200
_PAIR_COUNT = 64
_LOOP_TOKENS = 1024
_SITE_COUNT = 16
_SITE_WIDTH = 256
_NORM_COUNT = 50
_NORM_WIDTH = 2048


@dataclass(frozen=True)
class Overhead:
    """What goes into the profile, and what probes take off their own times."""

    record: RuntimeOverhead
    bare_run_s: float
    """Seconds of a run called directly, without the decode loop around it, waking the session's workers included."""


def measure_overhead(*, thread_count: int, round_count: int) -> Overhead:
    """Seconds of a run, a node, a bound pair and a norm's element; memory of a node is not measured here."""
    one, many = (_bound(trivial_chain(count), thread_count) for count in (1, _NODE_COUNT + 1))
    norms = BoundGraph(norm_chain(_NORM_COUNT, width=_NORM_WIDTH), thread_count=thread_count)
    norms.bind_rows(1)
    loops = [_DecodeLoop(pair_count, thread_count) for pair_count in (1, _PAIR_COUNT + 1)]
    sites = [_bound_sites(count, thread_count) for count in (1, _SITE_COUNT + 1)]
    one_s, many_s, norms_s, site_s, sites_s, loop_s, loops_s = quiet_times(
        [one, many, norms, *sites, *loops], round_count=round_count
    )
    node_s = _positive((many_s - one_s) / _NODE_COUNT)
    # Each key/value pair of a block is two inputs with their outputs, and two nodes of this graph.
    pair_s = 0.5 * (loops_s - loop_s) / _PAIR_COUNT - (node_s or 0.0)
    run_s = loop_s - 2.0 * pair_s - _DecodeLoop.FIXED_NODES * (node_s or 0.0)
    norm_s = (norms_s - one_s) / _NORM_COUNT - (node_s or 0.0)
    record = RuntimeOverhead(
        node_s=node_s,
        run_s=_positive(run_s),
        binding_s=_positive(pair_s),
        norm_s_per_element=_positive(norm_s / _NORM_WIDTH),
    )
    return Overhead(record=record, bare_run_s=max(one_s, site_s - (sites_s - site_s) / _SITE_COUNT))


class _DecodeLoop:
    """The decode loop on a graph that computes next to nothing."""

    FIXED_NODES = 3

    def __init__(self, pair_count: int, thread_count: int) -> None:
        session = open_session(cache_graph(pair_count).to_bytes(), thread_count=thread_count, is_one_of_many=True)
        self._decoder = Decoder(session, max_tokens=_LOOP_TOKENS, prefill_chunk_tokens=1)

    def run(self) -> None:
        """One token, from the start again when the room is used up."""
        if self._decoder.position >= _LOOP_TOKENS:
            self._decoder.reset()
        self._decoder.step(1)

    def time(self, run_count: int) -> float:
        """Mean seconds of a token."""
        self._decoder.reset()
        start_s = time.perf_counter()
        for _ in range(run_count):
            self._decoder.step(1)
        return (time.perf_counter() - start_s) / run_count


def _bound(graph: Graph, thread_count: int) -> BoundGraph:
    bound = BoundGraph(graph, thread_count=thread_count)
    one = np.ones(1, dtype=np.float32)
    bound.bind({value.name: one for value in graph.inputs}, {value.name: (1,) for value in graph.outputs})
    return bound


def _bound_sites(count: int, thread_count: int) -> BoundGraph:
    bound = BoundGraph(
        site_chain("fp32", in_features=_SITE_WIDTH, out_features=_SITE_WIDTH, site_count=count),
        thread_count=thread_count,
    )
    bound.bind_rows(1)
    return bound


def _positive(value: float) -> float | None:
    return value if value > 0.0 else None
