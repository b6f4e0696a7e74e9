"""Time of attention: GroupQueryAttention with rotary embedding inside, updating its cache in place as bundles do.

The first shape, the model's own where one is given, is also timed with an 8-bit cache; an onnxruntime that cannot run
one leaves those times out.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeprune.errors import ModelError
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
    times: list[AttentionTime] = []
    for num_heads, num_kv_heads, head_dim in shapes:
        if before is not None:
            before()
        for kv_bits in (32, 8) if not times else (32,):
            asked, graphs = _bound((num_heads, num_kv_heads, head_dim), points, kv_bits, thread_count)
            for (rows, past_tokens), median_s in zip(asked, quiet_times(graphs, round_count=round_count), strict=True):
                times.append(
                    AttentionTime(
                        rows=rows,
                        past_tokens=past_tokens,
                        num_heads=num_heads,
                        num_kv_heads=num_kv_heads,
                        head_dim=head_dim,
                        time_s=max(median_s - (run_s or 0.0), 1e-9) / _NODE_COUNT,
                        kv_bits=kv_bits,
                    )
                )
    return tuple(times)


def _bound(
    shape: AttentionShape, points: Sequence[tuple[int, int]], kv_bits: int, thread_count: int
) -> tuple[Sequence[tuple[int, int]], list[BoundGraph]]:
    """The points and their graphs; none where this onnxruntime has no such cache."""
    try:
        return points, [_bind(shape, rows, past_tokens, kv_bits, thread_count) for rows, past_tokens in points]
    except ModelError:
        if kv_bits == 32:
            raise
        return (), []


def _bind(shape: AttentionShape, rows: int, past_tokens: int, kv_bits: int, thread_count: int) -> BoundGraph:
    num_heads, num_kv_heads, head_dim = shape
    total = rows + past_tokens
    graph = attention_graph(
        _NODE_COUNT,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        max_positions=total,
        kv_bits=kv_bits,
    )
    rng = np.random.default_rng(total)
    cache_shape = (1, num_kv_heads, total, head_dim)
    feeds: dict[str, np.ndarray[Any, Any]] = {
        "qkv": rng.standard_normal((1, rows, (num_heads + 2 * num_kv_heads) * head_dim), dtype=np.float32),
        "seqlens_k": np.array([total - 1], dtype=np.int32),
        "total_sequence_length": np.array([total], dtype=np.int32),
    }
    in_place = {}
    for i in range(_NODE_COUNT):
        for part in ("key", "value"):
            past = rng.standard_normal(cache_shape, dtype=np.float32)
            feeds[f"past_{part}_{i}"] = past if kv_bits == 32 else np.rint(32.0 * past).clip(-127, 127).astype(np.int8)
            in_place[f"present_{part}_{i}"] = f"past_{part}_{i}"
    bound = BoundGraph(graph, thread_count=thread_count)
    bound.bind(feeds, {f"y_{i}": (1, rows, num_heads * head_dim) for i in range(_NODE_COUNT)}, in_place=in_place)
    return bound
