"""Small ONNX graphs that time one thing on a device, built without the `onnx` package.

`Graph` holds nodes and named arrays; `to_bytes` gives a ModelProto with the values inside, `write` a graph with the
values in one file beside it, as bundles have them. Here are the graphs that carry no site: trivial nodes, skip-norms
and attention; `probe_graph_sites` builds chains of sites. Shapes follow the bundles: [batch, rows, features].
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.runtime.probe_graph_wire import ArrayRange, Node, TypedValue, model_bytes, tensor_bytes

__all__ = ["Graph", "attention_graph", "norm_chain", "trivial_chain"]

_PAGE_BYTES = 4096
_INLINE_BYTES = 256
"""Smaller arrays stay in the graph: shape inference reads axes and the like, and reads no files."""


@dataclass(frozen=True)
class Graph:
    """One graph and its constant arrays."""

    nodes: list[Node]
    inputs: list[TypedValue]
    outputs: list[TypedValue]
    arrays: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)

    @property
    def array_bytes(self) -> int:
        """Bytes of all constant arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def to_bytes(self) -> bytes:
        """The model with its arrays inside."""
        tensors = (tensor_bytes(name, array, None) for name, array in self.arrays.items())
        return model_bytes(self.nodes, inputs=self.inputs, outputs=self.outputs, tensors=tensors)

    def write(self, folder: Path) -> Path:
        """Write `probe.onnx` and `probe.onnx.data` into `folder`; return the path of the first.

        Arrays start on page boundaries, so that the runtime can map each one without copying.
        """
        data_path = folder / "probe.onnx.data"
        tensors = []
        with data_path.open("wb") as stream:
            for name, array in self.arrays.items():
                if array.nbytes < _INLINE_BYTES:
                    tensors.append(tensor_bytes(name, array, None))
                    continue
                stream.seek(-(-stream.tell() // _PAGE_BYTES) * _PAGE_BYTES)
                stored = ArrayRange(data_path.name, stream.tell(), array.nbytes)
                stream.write(np.ascontiguousarray(array).data.cast("B"))
                tensors.append(tensor_bytes(name, array, stored))
        path = folder / "probe.onnx"
        path.write_bytes(model_bytes(self.nodes, inputs=self.inputs, outputs=self.outputs, tensors=tensors))
        return path


def trivial_chain(node_count: int) -> Graph:
    """`node_count` sign changes of one float: what is left is the fixed cost of a node."""
    nodes = [Node("Neg", [f"x{i}"], [f"x{i + 1}"]) for i in range(node_count)]
    return Graph(nodes, [TypedValue("x0", "float32", [1])], [TypedValue(f"x{node_count}", "float32", [1])])


def norm_chain(node_count: int, *, width: int, epsilon: float = 1e-6, seed: int = 0) -> Graph:
    """Skip-connections with RMS norm, one after another: h = h + x, x = h / rms(h) * gain, over [1, rows, width].

    Inputs `x` and `h0`; outputs `y` (last normalised) and `h` (last sum).
    """
    gains = np.random.default_rng(seed).uniform(0.5, 1.5, (node_count, width)).astype(np.float32)
    nodes = []
    shape: list[int | str] = ["batch", "rows", width]
    for i in range(node_count):
        last = i == node_count - 1
        nodes.append(
            Node(
                "SkipSimplifiedLayerNormalization",
                ["x" if i == 0 else f"x{i}", f"h{i}", f"gain{i}"],
                ["y" if last else f"x{i + 1}", "", "", "h" if last else f"h{i + 1}"],
                {"epsilon": epsilon},
                "com.microsoft",
            )
        )
    return Graph(
        nodes,
        [TypedValue("x", "float32", shape), TypedValue("h0", "float32", shape)],
        [TypedValue("y", "float32", shape), TypedValue("h", "float32", shape)],
        {f"gain{i}": gains[i] for i in range(node_count)},
    )


def attention_graph(
    node_count: int,
    *,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    max_positions: int,
    is_packed: bool = True,
    kv_bits: int = 32,
    rotary_base: float = 10000.0,
) -> Graph:
    """`node_count` GroupQueryAttention nodes with rotary embedding inside, all reading the same new tokens.

    Inputs: `qkv` [1, rows, (num_heads + 2 num_kv_heads) head_dim], or `q`, `k`, `v` apart; `past_key_<i>` and
    `past_value_<i>` [1, num_kv_heads, past, head_dim]; `seqlens_k` [1] int32 (tokens in the cache after this run,
    minus one); `total_sequence_length` [1] int32. Outputs: `y_<i>`, `present_key_<i>`, `present_value_<i>`; bound to
    the memory of the past they are updated in place. With `kv_bits` 8 past and present are int8 with one scale a
    channel, as bundles with an 8-bit cache have them.
    """
    angles = np.outer(np.arange(max_positions), rotary_base ** (-np.arange(0, head_dim, 2) / head_dim))
    arrays = {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
    head_counts = (
        {"qkv": num_heads + 2 * num_kv_heads}
        if is_packed
        else {
            "q": num_heads,
            "k": num_kv_heads,
            "v": num_kv_heads,
        }
    )
    inputs = [TypedValue(name, "float32", [1, "rows", count * head_dim]) for name, count in head_counts.items()]
    inputs += [TypedValue("seqlens_k", "int32", [1]), TypedValue("total_sequence_length", "int32", [1])]
    outputs = []
    nodes = []
    cached, attributes, scales = "float32", dict[str, int | float | str](), list[str]()
    if kv_bits == 8:
        cached, scales = "int8", ["", "", "", "scale", "scale"]  # between them positions, a bias and sinks
        attributes = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
        arrays["scale"] = np.full((1, num_kv_heads, 1, head_dim), 1 / 32, dtype=np.float32)
    names = ["qkv", "", ""] if is_packed else ["q", "k", "v"]
    for i in range(node_count):
        past, present = [f"past_key_{i}", f"past_value_{i}"], [f"present_key_{i}", f"present_value_{i}"]
        inputs += [TypedValue(name, cached, [1, num_kv_heads, "past", head_dim]) for name in past]
        outputs.append(TypedValue(f"y_{i}", "float32", [1, "rows", num_heads * head_dim]))
        outputs += [TypedValue(name, cached, [1, num_kv_heads, "present", head_dim]) for name in present]
        nodes.append(
            Node(
                "GroupQueryAttention",
                [*names, *past, "seqlens_k", "total_sequence_length", "cos", "sin", *scales],
                [f"y_{i}", *present],
                {"num_heads": num_heads, "kv_num_heads": num_kv_heads, "do_rotary": 1} | attributes,
                "com.microsoft",
            )
        )
    return Graph(nodes, inputs, outputs, arrays)
