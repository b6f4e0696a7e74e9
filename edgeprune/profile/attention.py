"""Time of attention: GroupQueryAttention with rotary embedding inside, updating its cache in place as bundles do.

The first shape, the model's own where one is given, is also timed with an 8-bit cache, which an onnxruntime that cannot
run one leaves out, and once with more keys and values than the last-level cache holds: between two tokens a model
reads all of its weights.
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
_MOST_NODES = 256


def measure_attention(
    shapes: Sequence[AttentionShape],
    points: Sequence[tuple[int, int]],
    *,
    thread_count: int,
    round_count: int,
    run_s: float | None,
    cache_bytes: int | None = None,
    before: Callable[[], None] | None = None,
) -> tuple[AttentionTime, ...]:
    """Seconds of one node for each shape and each point (new rows, past tokens).

    `run_s`, the fixed cost of a run, is taken off; `cache_bytes` is the last-level cache, None times no keys and values
    outside it; `before` is called ahead of every shape.
    """
    times: list[AttentionTime] = []
    if shapes and cache_bytes is not None:
        times += _streaming(shapes[0], points, cache_bytes, thread_count, round_count, run_s or 0.0)
    for num_heads, num_kv_heads, head_dim in shapes:
        if before is not None:
            before()
        for kv_bits in (32, 8) if (num_heads, num_kv_heads, head_dim) == shapes[0] else (32,):
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


def _streaming(
    shape: AttentionShape,
    points: Sequence[tuple[int, int]],
    cache_bytes: int,
    thread_count: int,
    round_count: int,
    run_s: float,
) -> list[AttentionTime]:
    """One new row at the longest past, over nodes whose keys and values exceed the cache by half."""
    past_tokens = max((past for rows, past in points if rows == 1), default=0)
    node_bytes = 2 * shape[1] * shape[2] * past_tokens * 4
    count = -(-cache_bytes * 3 // (2 * node_bytes)) if node_bytes else 0
    if not _NODE_COUNT < count <= _MOST_NODES:
        return []
    graph = _bind(shape, 1, past_tokens, 32, thread_count, node_count=count)
    (seconds,) = quiet_times([graph], round_count=round_count, rewarms=False)
    return [
        AttentionTime(
            rows=1,
            past_tokens=past_tokens,
            num_heads=shape[0],
            num_kv_heads=shape[1],
            head_dim=shape[2],
            time_s=max(seconds - run_s, 1e-9) / count,
            is_cached=False,
        )
    ]


def _bind(
    shape: AttentionShape,
    rows: int,
    past_tokens: int,
    kv_bits: int,
    thread_count: int,
    *,
    node_count: int = _NODE_COUNT,
) -> BoundGraph:
    num_heads, num_kv_heads, head_dim = shape
    total = rows + past_tokens
    graph = attention_graph(
        node_count,
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
    for i in range(node_count):
        for part in ("key", "value"):
            past = rng.standard_normal(cache_shape, dtype=np.float32)
            feeds[f"past_{part}_{i}"] = past if kv_bits == 32 else np.rint(32.0 * past).clip(-127, 127).astype(np.int8)
            in_place[f"present_{part}_{i}"] = f"past_{part}_{i}"
    bound = BoundGraph(graph, thread_count=thread_count)
    bound.bind(feeds, {f"y_{i}": (1, rows, num_heads * head_dim) for i in range(node_count)}, in_place=in_place)
    return bound
