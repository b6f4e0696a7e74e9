"""Time of attention: GroupQueryAttention with rotary embedding inside, updating its cache in place as bundles do."""

from collections.abc import Callable, Sequence

import numpy as np

from edgeprune.profile.bound_graph import BoundGraph
from edgeprune.profile.rounds import quiet_times
from edgeprune.runtime.probe_graph import attention_graph
from edgeprune.schema.device import AttentionTime

__all__ = ["AttentionShape", "measure_attention"]

AttentionShape = tuple[int, int, int]
"""num_heads, num_kv_heads, head_dim."""

_NODE_COUNT = 4


def measure_attention(
    shapes: Sequence[AttentionShape],
    points: Sequence[tuple[int, int]],
    *,
    thread_count: int,
    round_count: int,
    run_s: float | None,
    before: Callable[[], None] | None = None,
) -> tuple[AttentionTime, ...]:
    """Median seconds of one node for each shape and each point (new rows, past tokens).

    `run_s`, the fixed cost of a run, is taken off; `before` is called ahead of every shape.
    """
    times = []
    for num_heads, num_kv_heads, head_dim in shapes:
        if before is not None:
            before()
        graphs = [
            _bind(num_heads, num_kv_heads, head_dim, rows, past_tokens, thread_count) for rows, past_tokens in points
        ]
        for (rows, past_tokens), median_s in zip(points, quiet_times(graphs, round_count=round_count), strict=True):
            times.append(
                AttentionTime(
                    rows=rows,
                    past_tokens=past_tokens,
                    num_heads=num_heads,
                    num_kv_heads=num_kv_heads,
                    head_dim=head_dim,
                    time_s=max(median_s - (run_s or 0.0), 1e-9) / _NODE_COUNT,
                )
            )
    return tuple(times)


def _bind(
    num_heads: int, num_kv_heads: int, head_dim: int, rows: int, past_tokens: int, thread_count: int
) -> BoundGraph:
    total = rows + past_tokens
    graph = attention_graph(
        _NODE_COUNT, num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim, max_positions=total
    )
    rng = np.random.default_rng(total)
    cache_shape = (1, num_kv_heads, total, head_dim)
    feeds = {
        "qkv": rng.standard_normal((1, rows, (num_heads + 2 * num_kv_heads) * head_dim), dtype=np.float32),
        "seqlens_k": np.array([total - 1], dtype=np.int32),
        "total_sequence_length": np.array([total], dtype=np.int32),
    }
    in_place = {}
    for i in range(_NODE_COUNT):
        for part in ("key", "value"):
            feeds[f"past_{part}_{i}"] = rng.standard_normal(cache_shape, dtype=np.float32)
            in_place[f"present_{part}_{i}"] = f"past_{part}_{i}"
    bound = BoundGraph(graph, thread_count=thread_count)
    bound.bind(feeds, {f"y_{i}": (1, rows, num_heads * head_dim) for i in range(_NODE_COUNT)}, in_place=in_place)
    return bound
