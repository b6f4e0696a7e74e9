"""Small decoders with the inputs and outputs of a bundle, built without the `onnx` package.

`decoder_graph` has the nodes of a Llama-like bundle in narrow widths: what it occupies beyond its weights is what
nodes and sessions cost. `cache_graph` has only a table and key/value pairs: what it takes is the decode loop itself.
"""

from typing import Any

import numpy as np

from edgeprune.runtime.probe_graph import Graph
from edgeprune.runtime.probe_graph_sites import Arrays, site_nodes, site_weights
from edgeprune.runtime.probe_graph_wire import Node, TypedValue
from edgeprune.schema.kernel import parse_kernel

__all__ = ["HEAD_DIM", "cache_graph", "decoder_graph"]

HEAD_DIM = 16
_VOCAB = 16


def cache_graph(pair_count: int) -> Graph:
    """Token table, logits, and `pair_count` keys and values of one number each, changed in sign."""
    nodes = [Node("Gather", ["table", "input_ids"], ["logits"])]
    inputs = [TypedValue("input_ids", "int64", ["batch", "rows"])]
    outputs = [TypedValue("logits", "float32", ["batch", "rows", _VOCAB])]
    for i in range(pair_count):
        for part in ("key", "value"):
            past, present = f"past_key_values.{i}.{part}", f"present.{i}.{part}"
            nodes.append(Node("Neg", [past], [present]))
            inputs.append(TypedValue(past, "float32", ["batch", 1, "past", 1]))
            outputs.append(TypedValue(present, "float32", ["batch", 1, "past", 1]))
    return Graph(nodes, inputs, outputs, {"table": np.ones((_VOCAB, _VOCAB), dtype=np.float32)})


class _Builder:
    """Collects nodes and arrays; each method adds one part of a decoder and gives the name of its result."""

    def __init__(self, kernel: str) -> None:
        self.kernel = kernel
        self.nodes: list[Node] = []
        self.arrays: dict[str, np.ndarray[Any, Any]] = {}
        self._rng = np.random.default_rng(0)

    def array(self, name: str, *shape: int) -> str:
        self.arrays[name] = self._rng.uniform(0.5, 1.5, shape).astype(np.float32)
        return name

    def node(self, op_type: str, inputs: list[str], outputs: list[str], **attributes: int) -> None:
        is_standard = op_type in ("Add", "Cast", "Gather", "Mul", "ReduceSum", "Sigmoid", "Sub")
        self.nodes.append(Node(op_type, inputs, outputs, attributes, "" if is_standard else "com.microsoft"))

    def site(self, name: str, x: str, in_features: int, out_features: int) -> str:
        drawn = site_weights(self.kernel, in_features=in_features, out_features=out_features, rng=self._rng)
        self.arrays |= {f"{name}.{part}": array for part, array in drawn.items()}
        shape = (in_features, out_features)
        self.nodes += site_nodes(parse_kernel(self.kernel), shape=shape, x=x, y=f"{name}.y", prefix=name)
        return f"{name}.y"


def decoder_graph(block_count: int, *, kernel: str, max_positions: int = 64) -> Graph:
    """A Llama-like decoder of one head of `HEAD_DIM`, hidden size 32 and 32 FFN channels.

    Weights are a few kB a block, which is little beside what its nodes occupy.
    """
    width, head = 32, HEAD_DIM
    build = _Builder(kernel)
    build.array("table", _VOCAB, width)
    build.array("cos", max_positions, head // 2)
    build.array("sin", max_positions, head // 2)
    scalars: Arrays = {"one": np.array([1], dtype=np.int64), "axis": np.array([1], dtype=np.int64)}
    build.node("Gather", ["table", "input_ids"], ["h0"])
    build.node("ReduceSum", ["attention_mask", "axis"], ["lengths"], keepdims=0)
    build.node("Sub", ["lengths", "one"], ["lengths_less"])
    build.node("Cast", ["lengths_less"], ["seqlens_k"], to=6)
    build.node("Cast", ["lengths"], ["total_sequence_length"], to=6)
    inputs = [TypedValue(name, "int64", ["batch", "rows"]) for name in ("input_ids", "attention_mask")]
    inputs[1] = TypedValue("attention_mask", "int64", ["batch", "total"])
    outputs = [TypedValue("logits", "float32", ["batch", "rows", _VOCAB])]
    gain = build.array("norm", width)
    build.nodes.append(Node("SimplifiedLayerNormalization", ["h0", gain], ["x0"], {"epsilon": 1e-6, "axis": -1}))
    for i in range(block_count):
        past, present = ([f"{side}.{i}.{part}" for part in ("key", "value")] for side in ("past_key_values", "present"))
        inputs += [TypedValue(name, "float32", ["batch", 1, "past", head]) for name in past]
        outputs += [TypedValue(name, "float32", ["batch", 1, "total", head]) for name in present]
        qkv = build.site(f"b{i}.qkv", f"x{i}", width, 3 * head)
        build.node(
            "GroupQueryAttention",
            [qkv, "", "", *past, "seqlens_k", "total_sequence_length", "cos", "sin"],
            [f"b{i}.heads", *present],
            num_heads=1,
            kv_num_heads=1,
            do_rotary=1,
        )
        attended = build.site(f"b{i}.o", f"b{i}.heads", head, width)
        _skip_norm(build, f"b{i}.mid", attended, f"h{i}", width)
        gate, up = (build.site(f"b{i}.{role}", f"b{i}.mid.x", width, width) for role in ("gate", "up"))
        build.node("Sigmoid", [gate], [f"b{i}.sigmoid"])
        build.node("Mul", [gate, f"b{i}.sigmoid"], [f"b{i}.silu"])
        build.node("Mul", [f"b{i}.silu", up], [f"b{i}.hidden"])
        down = build.site(f"b{i}.down", f"b{i}.hidden", width, width)
        _skip_norm(build, f"b{i}.end", down, f"b{i}.mid.h", width, x=f"x{i + 1}", h=f"h{i + 1}")
    build.nodes.append(Node("MatMul", [f"x{block_count}", build.array("head", width, _VOCAB)], ["logits"]))
    return Graph(build.nodes, inputs, outputs, build.arrays | scalars)


def _skip_norm(build: _Builder, name: str, x_in: str, h_in: str, width: int, *, x: str = "", h: str = "") -> None:
    gain = build.array(f"{name}.gain", width)
    results = [x or f"{name}.x", "", "", h or f"{name}.h"]
    build.nodes.append(
        Node("SkipSimplifiedLayerNormalization", [x_in, h_in, gain], results, {"epsilon": 1e-6}, "com.microsoft")
    )
