"""Fixed costs of running a graph: of a run, a node, a bound pair, and a norm's element.

Every figure is a slope between a short and a long graph, timed in turns; where noise makes a slope negative the
figure is None, not 0.
"""

from dataclasses import dataclass

import numpy as np

from edgeprune.profile.bound_graph import BoundGraph
from edgeprune.profile.rounds import median_times
from edgeprune.runtime.probe_graph import Graph, identity_graph, norm_chain, trivial_chain
from edgeprune.schema.device import RuntimeOverhead

__all__ = ["Overhead", "measure_overhead"]

_NODE_COUNT = 200
_PAIR_COUNT = 64
_NORM_COUNT = 50
_NORM_WIDTH = 2048


@dataclass(frozen=True)
class Overhead:
    """What goes into the profile, and what probes take off their own times."""

    record: RuntimeOverhead
    bare_run_s: float
    """Seconds of a run of one node called directly, without the decode loop around it."""


def measure_overhead(*, thread_count: int, round_count: int) -> Overhead:
    """Seconds of a run, a node, a bound pair and a norm's element; memory of a node is not measured here."""
    one, many = (_bound(trivial_chain(count), thread_count) for count in (1, _NODE_COUNT + 1))
    pairs = _bound(identity_graph(_PAIR_COUNT + 1), thread_count)
    norms = BoundGraph(norm_chain(_NORM_COUNT, width=_NORM_WIDTH), thread_count=thread_count)
    norms.bind_rows(1)
    one_s, many_s, pairs_s, norms_s = median_times([one, many, pairs, norms], round_count=round_count)
    node_s = _positive((many_s - one_s) / _NODE_COUNT)
    pair_s = (pairs_s - one_s) / _PAIR_COUNT - (node_s or 0.0)
    norm_s = (norms_s - one_s) / _NORM_COUNT - (node_s or 0.0)
    record = RuntimeOverhead(
        node_s=node_s,
        run_s=_positive(one_s - (node_s or 0.0)),
        binding_s=_positive(pair_s),
        norm_s_per_element=_positive(norm_s / _NORM_WIDTH),
    )
    return Overhead(record=record, bare_run_s=one_s)


def _bound(graph: Graph, thread_count: int) -> BoundGraph:
    bound = BoundGraph(graph, thread_count=thread_count)
    one = np.ones(1, dtype=np.float32)
    bound.bind({value.name: one for value in graph.inputs}, {value.name: (1,) for value in graph.outputs})
    return bound


def _positive(value: float) -> float | None:
    return value if value > 0.0 else None
