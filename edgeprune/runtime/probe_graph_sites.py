"""Chains of sites under one kernel, as bundles store and multiply them.

Takes a kernel's name and a site's shape; gives a graph with input `x` [batch, rows, in] and output `y`
[batch, rows, out]. A site of equal in and out features feeds the next one. Others all read `x`, which times one shape
and not the mean of two; the result of each is read by a Shape node, a trivial one, so that its memory is used again.

Layouts (onnxruntime, docs/ContribOperators.md, MatMulNBits): B [out, blocks, block_size * bits / 8] uint8, the
first of two nibbles low, values offset by 2^(bits - 1) when no zero points are given; scales [out * blocks] float32.
"""

from typing import Any

import numpy as np

from edgeprune.runtime.probe_graph import Graph
from edgeprune.runtime.probe_graph_wire import Node, TypedValue
from edgeprune.schema.kernel import Kernel, parse_kernel

__all__ = ["Arrays", "site_chain", "site_nodes", "site_weights"]

Arrays = dict[str, np.ndarray[Any, Any]]


def site_weights(kernel: str, *, in_features: int, out_features: int, rng: np.random.Generator) -> Arrays:
    """Random arrays of one matrix as the kernel stores them; each output has about the variance of its input."""
    parsed = parse_kernel(kernel)
    if parsed.kind == "float":
        values = rng.standard_normal((in_features, out_features), dtype=np.float32) * np.float32(in_features**-0.5)
        return {"weight": values.astype(np.float16) if parsed.bits == 16 else values}
    # A uniform integer in [-2^(bits-1), 2^(bits-1)) has a standard deviation of 2^bits / sqrt(12).
    typical_scale = 12**0.5 / 2**parsed.bits * in_features**-0.5
    if parsed.kind == "dynamic_int8":
        scale = rng.uniform(0.8, 1.2, out_features).astype(np.float32) * np.float32(typical_scale)
        return {"weight": rng.integers(-127, 128, (in_features, out_features), dtype=np.int8), "scale": scale}
    assert parsed.block_size is not None
    blocks = -(-in_features // parsed.block_size)
    packed = rng.integers(0, 256, (out_features, blocks, parsed.block_size * parsed.bits // 8), dtype=np.uint8)
    scale = rng.uniform(0.8, 1.2, out_features * blocks).astype(np.float32) * np.float32(typical_scale)
    return {"weight": packed, "scale": scale}


def site_nodes(kernel: Kernel, *, shape: tuple[int, int], x: str, y: str, prefix: str) -> list[Node]:
    """Nodes that multiply `x` by one matrix."""
    weight = f"{prefix}.weight"
    if kernel.kind == "float" and kernel.bits == 32:
        return [Node("MatMul", [x, weight], [y])]
    if kernel.kind == "float":
        cast = Node("Cast", [weight], [f"{prefix}.float"], {"to": 1})
        return [cast, Node("MatMul", [x, f"{prefix}.float"], [y])]
    if kernel.kind == "dynamic_int8":
        names = [f"{prefix}.{part}" for part in ("quantized", "x_scale", "x_zero", "sum", "sum_float", "scales")]
        quantized, x_scale, x_zero, total, total_float, scales = names
        return [
            Node("DynamicQuantizeLinear", [x], [quantized, x_scale, x_zero]),
            Node("MatMulInteger", [quantized, weight, x_zero], [total]),
            Node("Cast", [total], [total_float], {"to": 1}),
            Node("Mul", [x_scale, f"{prefix}.scale"], [scales]),
            Node("Mul", [total_float, scales], [y]),
        ]
    assert kernel.block_size is not None
    assert kernel.accuracy_level is not None
    attributes = {
        "K": shape[0],
        "N": shape[1],
        "bits": kernel.bits,
        "block_size": kernel.block_size,
        "accuracy_level": kernel.accuracy_level,
    }
    return [Node("MatMulNBits", [x, weight, f"{prefix}.scale"], [y], attributes, "com.microsoft")]


def site_chain(
    kernel: str, *, in_features: int, out_features: int, site_count: int, rank: int | None = None, seed: int = 0
) -> Graph:
    """`site_count` sites with weights of their own; with a rank each is right [rank, in], then left [out, rank]."""
    parsed = parse_kernel(kernel)
    shapes = [(in_features, out_features)] if rank is None else [(in_features, rank), (rank, out_features)]
    # One random matrix a shape, copied for every site: what costs time is memory that is distinct, not values. The
    # copies must differ, though: onnxruntime keeps one prepared weight for all of the same content.
    rng = np.random.default_rng(seed)
    drawn = [site_weights(kernel, in_features=shape[0], out_features=shape[1], rng=rng) for shape in shapes]
    nodes: list[Node] = []
    arrays: Arrays = {}
    value = "x"
    for i in range(site_count):
        source = value if in_features == out_features else "x"
        for j, shape in enumerate(shapes):
            prefix = f"site{i}.{j}"
            last = i == site_count - 1 and j == len(shapes) - 1
            value = "y" if last else f"{prefix}.y"
            arrays |= {f"{prefix}.{name}": _told_apart(array, i) for name, array in drawn[j].items()}
            nodes += site_nodes(parsed, shape=shape, x=source, y=value, prefix=prefix)
            source = value
        if in_features != out_features and i < site_count - 1:
            nodes.append(Node("Shape", [value], [f"site{i}.shape"]))
    return Graph(
        nodes,
        [TypedValue("x", "float32", ["batch", "rows", in_features])],
        [TypedValue("y", "float32", ["batch", "rows", out_features])],
        arrays,
    )


def _told_apart(array: np.ndarray[Any, Any], index: int) -> np.ndarray[Any, Any]:
    """A copy whose leading entries are reordered, differently for each of some ten thousand indices."""
    copy: np.ndarray[Any, Any] = array.copy()
    flat = copy.reshape(-1)
    count = min(flat.size, 257)
    flat[:count] = np.roll(flat[:count], index % 257)
    flat[-count:] = np.roll(flat[-count:], index // 257)
    return copy
