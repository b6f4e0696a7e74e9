"""What the exported graph is made of: nodes and initializers a block, a site and a table need.

Takes shapes and kernel names, gives counts; `disk` turns them into bytes of the graph file and `latency` into fixed
time. The counts follow the fused graph that the exporter writes: pre-norm blocks with one attention node, packed or
separate projections, and one matrix node for a dense site.
"""

from typing import NamedTuple

from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.model import BlockSpec, ModelSpec

__all__ = ["Parts", "block_parts", "fixed_parts", "graph_bytes", "site_parts", "table_parts"]

NODE_PROTO_BYTES = 420
"""A NodeProto with its qualified names, and the ValueInfoProto of its output."""
INITIALIZER_PROTO_BYTES = 190
"""A TensorProto with name, dims and the external-data entries (file, offset, length)."""
GRAPH_PROTO_BYTES = 3_000
"""Header, opset imports, metadata."""
BINDING_PROTO_BYTES = 330
"""One past/present pair: two ValueInfoProtos in and out with symbolic dimensions."""


class Parts(NamedTuple):
    """Counts of what a piece of the graph consists of."""

    matrix_nodes: int = 0
    """Nodes whose time is in the kernel table."""
    other_nodes: int = 0
    """Nodes that cost about a node's fixed time, matrix and attention nodes not counted."""
    attention_nodes: int = 0
    initializers: int = 0
    bindings: int = 0
    """Past/present pairs."""

    @property
    def nodes(self) -> int:
        """All nodes."""
        return self.matrix_nodes + self.other_nodes + self.attention_nodes


def graph_bytes(parts: Parts) -> int:
    """Bytes these parts take in the graph file."""
    return (
        parts.nodes * NODE_PROTO_BYTES
        + parts.initializers * INITIALIZER_PROTO_BYTES
        + parts.bindings * BINDING_PROTO_BYTES
    )


def site_parts(kernel: str, *, rank: int | None, has_bias: bool) -> Parts:
    """One site: one matrix node or two, the nodes its kernel needs around them, and its bias."""
    factors = 1 if rank is None else 2
    kind, bits = parse_kernel(kernel).kind, parse_kernel(kernel).bits
    if kind == "matmul_nbits":
        matrix, around, initializers = 1, 0, 2
    elif kind == "dynamic_int8":
        # DynamicQuantizeLinear, Mul of the scales, Cast and Mul around MatMulInteger; timed together as one site.
        matrix, around, initializers = 5, 0, 3
    else:
        # 16-bit weights pass through a Cast, which the kernel's measured time includes.
        matrix, around, initializers = (1 if bits == 32 else 2), 0, 1
    bias = 1 if has_bias else 0
    return Parts(
        matrix_nodes=factors * matrix, other_nodes=factors * around + bias, initializers=factors * initializers + bias
    )


def block_parts(spec: ModelSpec, block: BlockSpec) -> Parts:
    """A block apart from its sites: norms, activation, product with up, attention, one past/present pair."""
    norm_tensors = 2 if spec.norm_kind == "rms" else 4
    # SiLU is Sigmoid and Mul, and the product with up is one more; an ungated MLP has the activation alone.
    activation_nodes = 3 if spec.is_gated else 1
    del block  # every block has the same node count; its widths change bytes, not nodes
    return Parts(other_nodes=2 + activation_nodes, attention_nodes=1, initializers=norm_tensors, bindings=1)


def table_parts(kernel: str, *, is_tied: bool) -> Parts:
    """Embedding look-up and head."""
    tensors = site_parts(kernel, rank=None, has_bias=False).initializers
    return Parts(matrix_nodes=1, other_nodes=1, initializers=tensors * (1 if is_tied else 2))


def fixed_parts(spec: ModelSpec) -> Parts:
    """What every graph has once: final norm, masks and position handling, rotary or position tables."""
    norm_tensors = 1 if spec.norm_kind == "rms" else 2
    tables = 2 if spec.position_kind == "rotary" else 1
    return Parts(other_nodes=10, initializers=norm_tensors + tables + 6)
