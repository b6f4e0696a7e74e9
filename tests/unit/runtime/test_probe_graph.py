"""Probe graphs compute what their names say, against numpy; and they are models that the onnx package accepts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.runtime.probe_graph import Graph, attention_graph, norm_chain, trivial_chain
from edgeprune.runtime.session import open_session

Array = np.ndarray[Any, Any]


def run(graph: Graph | Path, feeds: dict[str, Array]) -> dict[str, Array]:
    session = open_session(graph if isinstance(graph, Path) else graph.to_bytes(), thread_count=1)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def test_trivial_chain_changes_the_sign_once_a_node() -> None:
    for count in (1, 2, 7):
        (value,) = run(trivial_chain(count), {"x0": np.array([3.0], np.float32)}).values()
        assert value[0] == 3.0 * (-1) ** count


def test_norm_chain_is_skip_then_rms_norm() -> None:
    graph = norm_chain(3, width=48, epsilon=1e-5)
    rng = np.random.default_rng(1)
    x, h = (rng.standard_normal((1, 5, 48), dtype=np.float32) for _ in range(2))
    got = run(graph, {"x": x, "h0": h})
    for i in range(3):
        h = h + x
        x = h / np.sqrt(np.mean(h * h, axis=-1, keepdims=True) + 1e-5) * graph.arrays[f"gain{i}"]
    np.testing.assert_allclose(got["h"], h, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got["y"], x, rtol=1e-5, atol=1e-5)


def rotate(x: Array, positions: Array, base: float = 10000.0) -> Array:
    """Rotary embedding in the half-split form of Llama; x is [heads, rows, head_dim]."""
    half = x.shape[-1] // 2
    angles = positions[:, None] * base ** (-np.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    return np.concatenate(
        [first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles)], axis=-1
    )


def causal_attention(q: Array, k: Array, v: Array) -> Array:
    """q [heads, rows, d]; k, v [heads, total, d]; the rows are the last of the total."""
    rows, total = q.shape[1], k.shape[1]
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
    is_future = np.arange(total)[None, :] > np.arange(total - rows, total)[:, None]
    scores = np.where(is_future, -np.inf, scores)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ v


STEPS = 32
"""Of the probe's 8-bit cache to one."""


def eighths(x: Array) -> Array:
    """int8 as the probe's cache stores it."""
    return np.rint(x.astype(np.float32) * STEPS).clip(-128, 127).astype(np.int8)


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize(("past_count", "rows"), [(0, 6), (5, 1)])
@pytest.mark.parametrize("kv_bits", [32, 8])
def test_attention_graph_is_grouped_causal_rotary_attention(
    is_packed: bool, past_count: int, rows: int, kv_bits: int
) -> None:
    heads, kv_heads, dim, room = 4, 2, 32, 16
    graph = attention_graph(
        1,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=dim,
        max_positions=room,
        is_packed=is_packed,
        kv_bits=kv_bits,
    )
    rng = np.random.default_rng(2)
    total = past_count + rows
    q, k, v = (rng.standard_normal((count, rows, dim), dtype=np.float32) for count in (heads, kv_heads, kv_heads))
    past = [np.zeros((1, kv_heads, room, dim), np.float32) for _ in range(2)]
    for buffer in past:
        buffer[:, :, :past_count] = rng.standard_normal((1, kv_heads, past_count, dim))
    flat = [x.transpose(1, 0, 2).reshape(1, rows, -1) for x in (q, k, v)]
    feeds = {"qkv": np.concatenate(flat, axis=-1)} if is_packed else dict(zip("qkv", flat, strict=True))
    cached = [eighths(buffer) for buffer in past] if kv_bits == 8 else past
    feeds |= {"past_key_0": cached[0], "past_value_0": cached[1]}
    feeds |= {
        "seqlens_k": np.array([total - 1], np.int32),
        "total_sequence_length": np.array([total], np.int32),
    }
    got = run(graph, feeds)["y_0"]

    positions = np.arange(past_count, total)
    keys = np.concatenate([past[0][0, :, :past_count], rotate(k, positions)], axis=1)
    values = np.concatenate([past[1][0, :, :past_count], v], axis=1)
    if kv_bits == 8:
        # Every key, rotated before, and every value is read back from 8 bits, the new ones too.
        keys, values = eighths(keys) / STEPS, eighths(values) / STEPS
    shared = heads // kv_heads
    want = causal_attention(rotate(q, positions), np.repeat(keys, shared, 0), np.repeat(values, shared, 0))
    np.testing.assert_allclose(got[0], want.transpose(1, 0, 2).reshape(rows, -1), rtol=2e-5, atol=2e-5)


def test_arrays_beside_the_graph_give_the_same_result(tmp_path: Path) -> None:
    graph = norm_chain(2, width=2048)
    rng = np.random.default_rng(3)
    feeds = {name: rng.standard_normal((1, 2, 2048), dtype=np.float32) for name in ("x", "h0")}
    inside, beside = run(graph, feeds), run(graph.write(tmp_path), feeds)
    np.testing.assert_array_equal(inside["y"], beside["y"])
    assert (tmp_path / "probe.onnx.data").stat().st_size >= graph.array_bytes
    assert (tmp_path / "probe.onnx").stat().st_size < graph.array_bytes


def test_the_onnx_package_accepts_the_bytes_and_reads_the_same_arrays() -> None:
    onnx = pytest.importorskip("onnx")
    graph = norm_chain(2, width=8)
    model = onnx.load_model_from_string(graph.to_bytes())
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["SkipSimplifiedLayerNormalization"] * 2
    for tensor in model.graph.initializer:
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), graph.arrays[tensor.name])
